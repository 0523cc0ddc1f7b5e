"""HTTP to the model provider that ends when its job does.

A read time-out starts anew with each byte, so a server that trickles never meets it, and a thread that waits for a
socket hears of nothing else. Here every read and write is bounded by what is left of the call and of the job's
time, and stopping the job shuts the socket.
"""

from __future__ import annotations

import atexit
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

from httpcore2 import (
    SOCKET_OPTION,
    ConnectionPool,
    NetworkStream,
    ReadTimeout,
    Request,
    Response,
    SyncBackend,
)
from httpx2 import Client, HTTPTransport
from openai import DefaultHttpxClient

from client.llm.deadline import current_deadline

# One thread makes one call at a time; an upload by several hosts could hold a few.
MOST_CONNECTIONS = 4
KEEPALIVE_SECONDS = 30.0

_call_ends: ContextVar[float | None] = ContextVar("call_ends", default=None)


@contextmanager
def call_within(seconds: float) -> Iterator[None]:
    """Bound the whole of a call, however it is spread over reads. It then fails with a read time-out."""
    token = _call_ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _call_ends.reset(token)


@cache
def http_client() -> Client:
    """Return this process's client: as the SDK would make it, but over sockets that end with the job."""
    client = DefaultHttpxClient()
    # httpx has no setting for what its pools are made of, httpcore has.
    for transport in client._mounts.values():  # noqa: SLF001  proxies
        if isinstance(transport, HTTPTransport):
            transport._pool._network_backend = _Backend()  # noqa: SLF001
    direct = cast("Any", client._transport)  # noqa: SLF001
    direct._pool = _PoolPerThread(direct._pool)  # noqa: SLF001
    atexit.register(client.close)
    return client


class _PoolPerThread:
    """A pool of connections for each thread.

    One pool for all has a lock, and probes each idle connection for each request: with 100 threads that is most of
    what a question costs.
    """

    def __init__(self, model: ConnectionPool) -> None:
        self._ssl_context = model._ssl_context  # noqa: SLF001
        self._local = threading.local()

    def handle_request(self, request: Request) -> Response:
        """Send a request over this thread's connections."""
        owned: _Owned | None = getattr(self._local, "owned", None)
        if owned is None:
            owned = self._local.owned = _Owned(
                ConnectionPool(
                    ssl_context=self._ssl_context,
                    max_connections=MOST_CONNECTIONS,
                    keepalive_expiry=KEEPALIVE_SECONDS,
                    network_backend=_Backend(),
                )
            )
        return owned.pool.handle_request(request)

    def close(self) -> None:
        """Close what this thread has open; what others have goes with them."""
        self._local.__dict__.clear()


class _Owned:
    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool

    def __del__(self) -> None:
        self.pool.close()


class _Stream(NetworkStream):
    def __init__(self, stream: NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with current_deadline().closing_on_stop(self._shut):
            return self._stream.read(max_bytes, _bounded(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with current_deadline().closing_on_stop(self._shut):
            self._stream.write(buffer, _bounded(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _bounded(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _shut(self) -> None:
        with suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _Backend(SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        return _Stream(super().connect_tcp(host, port, _bounded(timeout), local_address, socket_options))


def _bounded(timeout: float | None) -> float | None:
    """Shorten a time-out to what is left of the call and of the job. Raises ReadTimeout, or as Deadline.check does."""
    left = current_deadline().remaining()
    ends = _call_ends.get()
    if ends is not None:
        rest = ends - time.monotonic()
        if rest <= 0:
            raise ReadTimeout("the call took too long")
        left = rest if left is None else min(left, rest)
    return left if timeout is None else timeout if left is None else min(timeout, left)
