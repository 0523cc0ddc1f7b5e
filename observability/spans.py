"""What a span and a tracer are, for the code that makes spans and the code that sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool
Attributes = Mapping[str, Value | None]


class Span(Protocol):
    """A span. The spans of `observability.otlp` are sent."""

    @property
    def traceparent(self) -> str | None:
        """The span as W3C's `traceparent`; None if nothing is traced."""

    @property
    def trace_id(self) -> str | None:
        """The id of the trace, for log lines; None if the trace is not recorded."""

    def set(self, attributes: Attributes) -> None:
        """Set attributes; those of None are left out."""

    def rename(self, name: str) -> None: ...

    def fail(self, error_type: str) -> None:
        """Note that the work of the span failed. `error_type`: a code or the name of a class, no message."""

    def end(self) -> None: ...


class Tracer(Protocol):
    """Starts spans, and sends those that have ended."""

    def start(
        self, name: str, kind: SpanKind, attributes: Attributes, *, parent: str | Span | None, link: str | None
    ) -> Span: ...
    def flush(self, seconds: float) -> None:
        """Send what has ended, within so many seconds."""

    def close(self, seconds: float) -> None: ...
