"""A receiver of webhooks: an HTTP server of the test's own that answers as told and keeps what it got."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> dict[str, Any]:
        """Check the signature with the official library; return the payload."""
        return dict(Webhook(secret).verify(self.body, self.headers))


@dataclass
class Receiver:
    """A running server. `answer` gives status and headers for each request; it may also take its time."""

    answer: Callable[[Received], tuple[int, dict[str, str]]] = lambda _: (204, {})
    received: list[Received] = field(default_factory=list)
    body: bytes = b""
    handle: Callable[[BaseHTTPRequestHandler], None] | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        got = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        receiver.received.append(got)
        if receiver.handle is not None:
            receiver.handle(self)
            return
        status, headers = receiver.answer(got)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(receiver.body)))
        self.end_headers()
        self.wfile.write(receiver.body)

    do_GET = do_POST  # noqa: N815  what a followed redirect would be

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that go away are part of the tests


@contextmanager
def receiving(*, certificate: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver on a free port; with a certificate, over TLS."""
    server = _Server(("127.0.0.1", 0), _Handler)
    receiver = server.receiver = Receiver(port=server.server_address[1])
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
