"""Spans of requests and jobs, for OpenTelemetry. Off without OTEL_EXPORTER_OTLP_ENDPOINT: then nothing is imported.

A span belongs to the context (contextvars) of its block, and spans made in the block are its children. Only `root`
spans may begin a trace, so that code which runs outside any request or job makes none. Names of spans and attributes
follow OpenTelemetry's semantic conventions 1.44.0 for HTTP and messaging, and its conventions for GenAI as the package
opentelemetry-semantic-conventions 0.66b2 has them; names that begin with `rag.` are ours.

Spans hold ids, numbers, and names of models, queues and routes; with LOG_CONTENT=1 also what `note_content` is given.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING

from errors import SettingsError
from observability.spans import Attributes, Span, SpanKind, Tracer

if TYPE_CHECKING:
    from settings import Settings

# A `traceparent` of W3C's Trace Context: version, trace, parent, flags. No trace and no parent is all zeros.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII)
MAX_TRACEPARENT = 512
# How long the end of a process waits for its last spans to be sent.
CLOSE_SECONDS = 2.0
MISSING = (
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but a package that traces need is missing: run `make telemetry`, or "
    "`pip install -r requirements-telemetry.txt`; for containers, `TELEMETRY=1 docker compose --profile app build`"
)


class _NoSpan:
    traceparent = None
    trace_id = None

    def set(self, attributes: Attributes) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def fail(self, error_type: str) -> None:
        pass

    def end(self) -> None:
        pass


class _NoBlock:
    """The block of a span that is not made. Used again and again."""

    def __enter__(self) -> Span:
        return NO_SPAN

    def __exit__(self, *_error: object) -> None:
        pass


class _Block:
    """A block with a span: the span ends with it, and fails with an exception."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        self._token = _current.set(self._span)
        return self._span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        _current.reset(self._token)
        if error is not None:
            self._span.fail(error_type(error))
        self._span.end()


NO_SPAN: Span = _NoSpan()
_NO_BLOCK = _NoBlock()
_current: ContextVar[Span | None] = ContextVar("span", default=None)
_tracer: Tracer | None = None
_shows_content = False
_configured = False


def configure(settings: Settings) -> None:
    """Have this process send spans to OTEL_EXPORTER_OTLP_ENDPOINT, if it is set. May be called again.

    Raises SettingsError if a package is missing.
    """
    global _tracer, _shows_content, _configured
    close()
    _configured = True
    _shows_content = settings.log_content
    require(settings)
    if settings.otel_exporter_otlp_endpoint is not None:
        from observability.otlp import OtlpTracer

        _tracer = OtlpTracer(settings)


def require(settings: Settings) -> None:
    """Raise SettingsError if traces are wanted and a package that they need is missing."""
    packages = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")
    if settings.otel_exporter_otlp_endpoint is not None and not all(map(_is_installed, packages)):
        raise SettingsError(MISSING)


def preload(settings: Settings) -> None:
    """Import what traces need, if they are wanted: for a process that forks. Starts no thread, and never raises."""
    if settings.otel_exporter_otlp_endpoint is not None:
        with suppress(ModuleNotFoundError):  # the jobs say so
            import observability.otlp  # noqa: F401


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a parent
        return False


def configure_once(settings: Callable[[], Settings]) -> None:
    """Configure unless this process already has: for a job under RQ's own workers. Never raises for traces."""
    if _configured:
        return
    try:
        configure(settings())
    except SettingsError as error:
        logging.getLogger("traces").warning("no traces: %s", error.detail)


def close(seconds: float = CLOSE_SECONDS) -> None:
    """Send the last spans, within so many seconds, and make no more."""
    global _tracer, _configured
    tracer, _tracer, _configured = _tracer, None, False
    if tracer is not None:
        tracer.close(seconds)


def flush(seconds: float) -> None:
    """Send the spans that have ended, within so many seconds: for a process that is about to end by os._exit."""
    if _tracer is not None:
        _tracer.flush(seconds)


def enabled() -> bool:
    """Return True if spans are made."""
    return _tracer is not None


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = "internal",
    root: bool = False,
    parent: str | None = None,
    link: str | None = None,
) -> _Block | _NoBlock:
    """Return a block with a span, whose `with` gives the Span.

    `root`: begin a trace if there is no parent. `parent`, `link`: a `traceparent`; the parent is the span of the
    surrounding block by default.
    """
    if _tracer is None:
        return _NO_BLOCK
    above: str | Span | None = parent or _current.get()
    if above is None and not root:
        return _NO_BLOCK
    return _Block(_tracer.start(name, kind, attributes or {}, parent=above, link=link))


def current_span() -> Span:
    """Return the span of this context, or else NO_SPAN, which does nothing."""
    return _current.get() or NO_SPAN


def note_content(attributes: Attributes) -> None:
    """Set attributes that users or documents wrote; does nothing unless LOG_CONTENT=1."""
    if _shows_content and _tracer is not None:
        current_span().set(attributes)


def read_traceparent(text: object) -> str | None:
    """Return a `traceparent` as this version writes it; None for anything else."""
    if not isinstance(text, str) or len(text) > MAX_TRACEPARENT or not (found := _TRACEPARENT.fullmatch(text)):
        return None
    if text.startswith("00-") and found[1]:  # version 00 has no further parts
        return None
    return f"00-{text[3:52]}-0{int(text[53:55], 16) & 1}"


def error_type(error: BaseException) -> str:
    """Return the name of an error's class, which never holds content."""
    return type(error).__name__
