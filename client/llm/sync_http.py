"""HTTP to the model provider for langchain-openai, whose calls block. A call ends when its job ends.

A read time-out starts again with each byte, so a server that trickles never exceeds the time-out; and a thread that
waits for a socket notices nothing else. So every read and write is bounded by the time left for the call and for the
job, and stopping the job shuts the socket.
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

import openai
from httpcore2 import (
    SOCKET_OPTION,
    ConnectionPool,
    NetworkStream,
    ReadTimeout,
    Request,
    Response,
    SyncBackend,
)
from httpx2 import Client, ConnectTimeout, HTTPTransport
from openai import DefaultHttpxClient

from client.llm.deadline import current_deadline
from client.llm.failures import AnswerTimeout, CallFailure, CallTimeout, NoConnection, StatusFailure

# Connections of one thread. A thread makes one call at a time, but providers may have several hosts.
MAX_CONNECTIONS = 4
KEEPALIVE_SECONDS = 30.0
# The SDK does not retry; `client.llm.retries` does. A job as a whole is not run again.
MAX_RETRIES = 0

_call_deadline: ContextVar[float | None] = ContextVar("call_deadline", default=None)


@contextmanager
def call_within(seconds: float) -> Iterator[None]:
    """Bound a whole call, however many reads it takes: after `seconds` its next read or write raises ReadTimeout."""
    token = _call_deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _call_deadline.reset(token)


@contextmanager
def sdk_failures() -> Iterator[None]:
    """Translate the SDK's errors to CallFailure."""
    try:
        yield
    except openai.APITimeoutError as error:
        if isinstance(error.__cause__, ConnectTimeout):
            raise CallTimeout from None
        raise AnswerTimeout("did not answer in time") from None
    except openai.APIConnectionError:
        raise NoConnection from None
    except openai.APIStatusError as error:
        raise StatusFailure(error.status_code, error.body, error.response.headers) from None
    except openai.OpenAIError as error:
        raise CallFailure(type(error).__name__) from None


@cache
def http_client() -> Client:
    """Return the client of this process: the SDK's default client, over sockets that end with the job."""
    client = DefaultHttpxClient()
    # httpx has no setting for the network backend of its pools; httpcore has one.
    for transport in client._mounts.values():  # noqa: SLF001  proxies
        if isinstance(transport, HTTPTransport):
            transport._pool._network_backend = _DeadlineBackend()  # noqa: SLF001
    direct = cast("Any", client._transport)  # noqa: SLF001
    direct._pool = _PoolPerThread(direct._pool)  # noqa: SLF001
    atexit.register(client.close)
    return client


class _PoolPerThread:
    """A connection pool for each thread.

    A shared pool takes a lock and checks every idle connection for each request: with 100 threads these steps
    take most of the CPU time of a question.
    """

    def __init__(self, default: ConnectionPool) -> None:
        self._ssl_context = default._ssl_context  # noqa: SLF001
        self._local = threading.local()

    def handle_request(self, request: Request) -> Response:
        """Send a request over this thread's connections."""
        thread: _ThreadPool | None = getattr(self._local, "thread", None)
        if thread is None:
            thread = self._local.thread = _ThreadPool(
                ConnectionPool(
                    ssl_context=self._ssl_context,
                    max_connections=MAX_CONNECTIONS,
                    keepalive_expiry=KEEPALIVE_SECONDS,
                    network_backend=_DeadlineBackend(),
                )
            )
        return thread.pool.handle_request(request)

    def close(self) -> None:
        """Close this thread's connections. The connections of another thread close when that thread ends."""
        self._local.__dict__.clear()


class _ThreadPool:
    """The pool of one thread, closed when the thread ends."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool

    def __del__(self) -> None:
        self.pool.close()


class _DeadlineStream(NetworkStream):
    """A socket that is shut when the job is stopped."""

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
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, _bounded(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _shut(self) -> None:
        with suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _DeadlineBackend(SyncBackend):
    """Opens sockets that end with the job."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        return _DeadlineStream(super().connect_tcp(host, port, _bounded(timeout), local_address, socket_options))


def _bounded(timeout: float | None) -> float | None:
    """Return the shortest of a time-out and the times left for the call and for the job; None if nothing has a limit.

    Raises ReadTimeout when the call's time is up, and what Deadline.check raises.
    """
    limits = [timeout, current_deadline().remaining()]
    call_deadline = _call_deadline.get()
    if call_deadline is not None:
        call_left = call_deadline - time.monotonic()
        if call_left <= 0:
            raise ReadTimeout("the call took too long")
        limits.append(call_left)
    return min((limit for limit in limits if limit is not None), default=None)
