"""Spans by OpenTelemetry's SDK, sent as OTLP over HTTP. Needs requirements-telemetry.txt.

The provider of the SDK stays private: if it were the global one, FastAPI, mcp, redis and langsmith would add spans of
their own, with content. The SDK's sender is replaced: it repeats a request for 10 s, and reads variables by which data
would go elsewhere. Spans wait in memory, at most MAX_WAITING of them, and a thread sends them: nothing that fails here
is felt by a request or a job.
"""

from __future__ import annotations

import atexit
import gzip
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from observability.spans import Attributes, Span
from observability.spans import SpanKind as KindName
from settings.telemetry import read_pairs
from settings.version import VERSION

if TYPE_CHECKING:
    import httpx

    from settings import Settings

log = logging.getLogger("traces")

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
MAX_WAITING: Final = 8_192
MAX_SENT: Final = 512
SEND_EVERY_SECONDS: Final = 1.0
SEND_SECONDS: Final = 5.0
# How often a failure to send is logged.
WARN_SECONDS: Final = 60.0
MAX_VALUE_CHARS: Final = 8_192
_EMPTY: Final = Context()
_KINDS: Final = {name: SpanKind[name.upper()] for name in ("internal", "server", "client", "producer", "consumer")}


class OtlpSpan:
    """A span of the SDK."""

    __slots__ = ("_context", "_span")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._context = span.get_span_context()

    @property
    def sdk_span(self) -> trace.Span:
        """The SDK's span."""
        return self._span

    @property
    def traceparent(self) -> str:
        context = self._context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"

    @property
    def trace_id(self) -> str | None:
        return f"{self._context.trace_id:032x}" if self._context.trace_flags & 1 else None

    def set(self, attributes: Attributes) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error_type: str) -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        self._span.end()


class OtlpTracer:
    """Makes spans, of which a thread sends those that have ended."""

    def __init__(self, settings: Settings) -> None:
        self._exporter = OtlpExporter(settings)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=MAX_WAITING,
            schedule_delay_millis=SEND_EVERY_SECONDS * 1000,
            max_export_batch_size=MAX_SENT,
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.otel_traces_sampler_arg)),
            resource=Resource(_resource(settings), SCHEMA_URL),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=MAX_VALUE_CHARS),
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("rag", VERSION, schema_url=SCHEMA_URL)
        atexit.register(self.close, 1.0)

    def start(
        self, name: str, kind: KindName, attributes: Attributes, *, parent: str | Span | None, link: str | None
    ) -> OtlpSpan:
        links = [Link(_read(link))] if link else None
        span = self._tracer.start_span(
            name,
            context=_context_of(parent),
            kind=_KINDS[kind],
            attributes={key: value for key, value in attributes.items() if value is not None},
            links=links,
            record_exception=False,  # messages may hold content
            set_status_on_exception=False,
        )
        return OtlpSpan(span)

    def flush(self, seconds: float) -> None:
        _bounded(self._processor.force_flush, seconds)

    def close(self, seconds: float) -> None:
        atexit.unregister(self.close)
        self._exporter.give_up_at = time.monotonic() + seconds
        _bounded(self._provider.shutdown, seconds)


class OtlpExporter(SpanExporter):
    """POSTs spans once. What cannot be sent is dropped, and the log says so once a minute."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.otel_exporter_otlp_endpoint}/v1/traces"
        secret = settings.otel_exporter_otlp_headers
        headers = {} if secret is None else read_pairs(secret.get_secret_value())
        self._headers = headers | {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
        self._client: httpx.Client | None = None
        self._pid = 0
        self._dropped = 0
        self._warn_at = 0.0
        self.give_up_at = float("inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. Never raises."""
        try:
            reason = self._send(spans)
        except Exception as error:  # noqa: BLE001  a failure must not end the thread
            reason = type(error).__name__
        if reason is None:
            return SpanExportResult.SUCCESS
        self._dropped += len(spans)
        if time.monotonic() >= self._warn_at:
            log.warning(
                "%d spans were dropped: OTEL_EXPORTER_OTLP_ENDPOINT does not take traces (%s)", self._dropped, reason
            )
            self._warn_at, self._dropped = time.monotonic() + WARN_SECONDS, 0
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the connection."""
        if self._client is not None and self._pid == os.getpid():
            self._client.close()

    def _send(self, spans: Sequence[ReadableSpan]) -> str | None:
        """Return why the spans were not taken; None if they were."""
        seconds = min(SEND_SECONDS, self.give_up_at - time.monotonic())
        if seconds <= 0:
            return "the process ends"
        body = gzip.compress(encode_spans(spans).SerializeToString(), compresslevel=1)
        response = self._opened().post(self._url, content=body, headers=self._headers, timeout=seconds)
        return None if response.is_success else f"status {response.status_code}"

    def _opened(self) -> httpx.Client:
        """Return the client of this process: a fork must not use the connection of its parent."""
        if self._client is None or self._pid != os.getpid():
            import httpx

            self._client, self._pid = httpx.Client(timeout=SEND_SECONDS, follow_redirects=False), os.getpid()
        return self._client


def _resource(settings: Settings) -> dict[str, Any]:
    return {
        "service.version": VERSION,
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        **read_pairs(settings.otel_resource_attributes or ""),
        "service.name": settings.otel_service_name,
    }


def _context_of(parent: str | Span | None) -> Any:
    """Return the context of a parent, for the SDK: empty without one, whatever others have made current."""
    if isinstance(parent, OtlpSpan):
        return trace.set_span_in_context(parent.sdk_span, _EMPTY)
    if isinstance(parent, str):
        return trace.set_span_in_context(NonRecordingSpan(_read(parent)), _EMPTY)
    return _EMPTY


def _read(traceparent: str) -> SpanContext:
    """Return the context that a well-formed `traceparent` names."""
    _version, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _bounded(act: Any, seconds: float) -> None:
    """Do something in a thread, and wait for it so many seconds at most."""
    thread = threading.Thread(target=act, name="traces", daemon=True)
    thread.start()
    thread.join(seconds)
