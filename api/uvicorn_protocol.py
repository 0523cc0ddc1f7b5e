"""uvicorn's options and protocol: limits on the head of a request, and on how long a client may keep a connection.

uvicorn reads the whole head before it calls the app, so no middleware sees a slow or an endless head. The number of
connections has no limit: thousands may watch jobs at a time, and an idle stream takes 19 kB. A server with too
little memory for them needs a proxy in front.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from httptools import HttpParserError
from starlette.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.client_connection import ClientConnection
from api.middleware.security_headers import COMMON
from api.problems import openai_error, problem_response
from settings import Settings
from settings.stop_times import API_GRACE_SECONDS

# A question of 4,000 characters of four bytes each, percent-encoded as a query parameter, takes 48,000.
MAX_URL_BYTES = 50_000
MAX_HEADER_BYTES = 32 * 1024
MAX_HEADERS = 100
# Clients close an idle connection after 5 s (httpx, OpenAI for Python) to 60 s (nginx, load balancers). If the server
# did so before them, a request could meet a connection that is being closed.
KEEP_ALIVE_SECONDS = 75
# Errors of these addresses have the shape of OpenAI's.
OPENAI_PREFIX = b"/v1/"

_PROBLEMS = {
    400: ("Bad request", "this is not a valid HTTP request"),
    408: ("Request timed out", "the head of the request came too slowly: send it again"),
    414: ("URI too long", f"the address is longer than {MAX_URL_BYTES} bytes: send long questions in a JSON body"),
    431: (
        "Headers too large",
        f"a request may have {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes in total: send fewer",
    ),
}


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on the head of a request, and on how long a client may keep a connection.

    `head_seconds`: from the connection, or the first byte of a further request, to the end of the head.
    `linger_seconds`: how long the rest of a body is discarded after the response, before the connection is closed. An
    immediate close would lose the response on its way.
    `reader_seconds`: how long a client may leave the data that waits for it unread.
    """

    head_seconds: ClassVar[float] = 10.0
    linger_seconds: ClassVar[float] = 5.0
    reader_seconds: ClassVar[float] = 60.0

    _head_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    # Bytes read since the parser last made progress: of a head, of trailers, or of chunk extensions.
    _unparsed_bytes = 0
    _url_bytes = 0
    _header_bytes = 0
    _header_count = 0
    _request_begun = False
    _in_head = False
    _refusal = 400
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection = ClientConnection()
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._linger_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._connection.lose()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        if self._unparsed_bytes > MAX_URL_BYTES + MAX_HEADER_BYTES:
            self._refuse(431 if self._header_count or self._header_bytes else 414)
        elif not self._expects_head():
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._head_too_slow)

    def _expects_head(self) -> bool:
        """Return True if the head of a request is expected and no timer of uvicorn limits the wait."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        if self._request_begun and self._in_head:
            return True
        return self.timeout_keep_alive_task is None and self._linger_timer is None

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["connection"] = self._connection
        self._in_head = True
        self._request_begun = True
        self._url_bytes = self._header_bytes = self._header_count = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._url_bytes += len(url)
        if self._url_bytes > MAX_URL_BYTES:
            self._refusal = 414
            raise HttpParserError

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value) + 4
        if self._header_count > MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            self._refusal = 431
            raise HttpParserError
        if self._in_head:  # trailers must not change a request that is being answered
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unparsed_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed_bytes = 0
        self._request_begun = False
        super().on_message_complete()
        if self._linger_timer is not None:
            # The rest of the body has come: from here on the connection is idle.
            self._stop_lingering()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def shutdown(self) -> None:
        """End the responses that wait for a job, so that the process can end."""
        super().shutdown()
        queue = self.app_state.get("queue")
        if queue is not None:
            queue.notifier.release_waiters()

    # -- responses without the app

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's text
        self._refuse(self._refusal)

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._request_begun:
            self._refuse(408)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Send a problem, unless another response has begun, and close the connection."""
        self._refused = True
        self._stop_head_timer()
        if self.cycle is not None and not self.cycle.response_complete:
            if self.pipeline or self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True  # discards what the app still sends
            self.cycle.message_event.set()
        self.transport.write(self._problem(status))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger()

    def _problem(self, status: int) -> bytes:
        title, detail = _PROBLEMS[status]
        closing = {"Connection": "close"}
        if self.url.startswith(OPENAI_PREFIX):
            body = openai_error(detail, type_="invalid_request_error", param=None, code="invalid_request_error")
            response = JSONResponse(body, status_code=status, headers=closing)
        else:
            response = problem_response(status, title, detail, headers=closing)
        headers = [*self.server_state.default_headers, *COMMON, *response.raw_headers]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", bytes(response.body)])

    # -- limits on open connections

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            # The response did not wait for the body. The rest of the body is discarded, for a limited time.
            self._linger()

    def _linger(self) -> None:
        if self._linger_timer is None:
            self._linger_timer = self.loop.call_later(self.linger_seconds, self.transport.close)

    def _stop_lingering(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader_timer is None:
            self._reader_timer = self.loop.call_later(self.reader_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """Return the options of uvicorn.run beside the app and its address."""
    return {
        "http": GuardedProtocol,
        "ws": "none",
        # uvloop accepts one connection per iteration of the loop, asyncio all that wait: 1,000 streams opened at once
        # took 1.85 ms of CPU each with uvloop and 1.57 ms with asyncio. A request of an open connection costs the same.
        "loop": "asyncio",
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": API_GRACE_SECONDS,
        "server_header": False,
        "proxy_headers": False,  # api/middleware/forwarding.py reads them
        "log_config": None,
        "log_level": settings.log_level.lower(),
        # uvicorn's lines would contain the questions; api/request_log.py logs requests instead.
        "access_log": False,
    }
