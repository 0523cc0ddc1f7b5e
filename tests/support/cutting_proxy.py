"""A proxy that cuts connections as told, between a client and a server."""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class CuttingProxy:
    """Passes bytes on. `cuts`: after how many bytes of a response the next connections are cut; 0 loses the response.

    `made` counts the cuts.
    """

    url: str
    cuts: deque[int] = field(default_factory=deque)
    made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_cut(self) -> int | None:
        with self._lock:
            return self.cuts.popleft() if self.cuts else None

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what both send, until one of them ends the connection or it is cut."""
        upward = threading.Thread(target=_pass_on, args=(client, server), daemon=True)
        upward.start()
        left: int | None = None
        with suppress(OSError):
            while part := server.recv(65_536):
                left = self.next_cut() if left is None else left
                if left is not None and len(part) >= left:
                    client.sendall(part[:left])
                    self.made += 1
                    _reset(client)
                    break
                client.sendall(part)
                left = None if left is None else left - len(part)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        upward.join(10)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """Have the connection end as if its other side had vanished, and not as if all was said."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def cutting_proxy(host: str, port: int) -> Iterator[CuttingProxy]:
    """Run a proxy before a server; yield it."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = CuttingProxy(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection((host, port), timeout=60)
                except OSError:
                    client.close()
                    continue
                threading.Thread(target=proxy.serve, args=(client, server), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
