"""A receiver of traces: an OTLP/HTTP server of the test's own that decodes what it gets."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived. Ids are hexadecimal; `parent` is empty for the first span of a trace."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: list[str]
    attributes: dict[str, Any]
    failed: bool
    resource: dict[str, Any]


@dataclass
class Traces:
    """A running receiver. `status` is what it answers."""

    url: str = ""
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[ReceivedSpan] = field(default_factory=list)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in list(self.spans) if span.name == name]

    def one(self, name: str) -> ReceivedSpan:
        (span,) = self.named(name)
        return span

    def above(self, span: ReceivedSpan) -> list[str]:
        """Return the names of the spans above a span, up to the first of the trace."""
        by_id = {each.id: each for each in self.spans}
        names = []
        while span.parent in by_id:
            span = by_id[span.parent]
            names.append(span.name)
        return names


@contextmanager
def receiving_traces() -> Iterator[Traces]:
    traces = Traces()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            traces.headers.append({name.lower(): value for name, value in self.headers.items()})
            traces.bodies.append(body)
            if traces.status == 200 and self.path == "/v1/traces":
                traces.spans.extend(decode(body))
            self.send_response(traces.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    traces.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield traces
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def decode(body: bytes) -> Iterator[ReceivedSpan]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    span.name,
                    KINDS[span.kind],
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    [link.span_id.hex() for link in span.links],
                    _attributes(span.attributes),
                    span.status.code == 2,
                    resource,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
