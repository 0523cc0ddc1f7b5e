"""A server of plain sockets, for what no HTTP server says."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def serving_sockets(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve connections, each in a thread, until the end of the block."""
    connections: list[socket.socket] = []

    def run(connection: socket.socket) -> None:
        with suppress(OSError):
            handle(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=run, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()
    thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    """Read a request to the end of its body. A socket that is closed with unread bytes resets the connection."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if end and len(body) >= int(length[1] if length else 0):
            break
    return received
