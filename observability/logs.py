"""Log lines: one form for all of them, ids instead of content, and the audit log.

Modules log with the standard library; `extra=fields(...)` adds what a program may want to look for. What libraries
say is trusted only where it is known to hold no content. `LOG_CONTENT=1` lifts that, but never shows a secret.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any

from errors import SettingsError
from observability.redaction import WITHHELD, describe_exception, make_redactor, secrets_of
from settings import Settings

# Loggers of ours, and of libraries whose messages hold no content.
TRUSTED = {"api", "audit", "client", "crash", "events", "main", "queues", "rq", "uvicorn", "webhooks"}
# Libraries that bring handlers of their own.
_TAKEN_OVER = ("rq.worker", "rq.job", "uvicorn", "uvicorn.error", "uvicorn.access")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_WARNING = re.compile(r"(.*?:\d+: \w+):")

_audit = logging.getLogger("audit")
_bound: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default=MappingProxyType({}))
_show_content = False
_configured = False


def bind(**values: Any) -> None:
    """Add fields to every line that follows in this context: this request or job."""
    _bound.set({**_bound.get(), **values})


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Add fields to every line within the block."""
    token = _bound.set({**_bound.get(), **values})
    try:
        yield
    finally:
        _bound.reset(token)


def fields(**values: Any) -> dict[str, Any]:
    """Return the `extra` of a log call that adds these fields to its line. None is left out."""
    return {"fields": values}


def audit(event: str, **values: Any) -> None:
    """Write a line of the audit log: who did what to what, by ids. Whatever LOG_LEVEL says, always as JSON."""
    _audit.info(event, extra={"fields": values})


def content(log: logging.Logger, event: str, **values: Any) -> None:
    """Log questions and answers, with LOG_CONTENT=1 alone."""
    if _show_content:
        log.info(event, extra={"fields": values})


def configure(settings: Settings, *, level: str | None = None) -> None:
    """Have all log lines of this process come out in one form, on standard error. May be called again.

    Raises SettingsError when AUDIT_LOG cannot be written.
    """
    global _show_content, _configured
    _show_content = settings.log_content
    redact = make_redactor(secrets_of(settings))
    lines = _Stderr()
    lines.addFilter(_without_content if not settings.log_content else lambda _record: True)
    as_json = settings.log_format == "json"
    lines.setFormatter(_make_formatter(redact, as_json=as_json, show=settings.log_content))
    for name in ("", *_TAKEN_OVER):
        _drop_stream_handlers(logging.getLogger(name))
    root = logging.getLogger()
    root.addHandler(lines)
    root.setLevel(level or settings.log_level)
    # RQ gives its logger a level of its own, INFO.
    logging.getLogger("rq.worker").setLevel(level or settings.log_level)
    _configure_audit(settings.audit_log, _make_formatter(redact, as_json=True, show=settings.log_content))
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed
    _configured = True


def configure_once(settings: Callable[[], Settings]) -> None:
    """Configure unless that was done: for a job in a worker that is not ours."""
    if not _configured:
        configure(settings())


def _configure_audit(path: Path | None, formatter: logging.Formatter) -> None:
    for handler in list(_audit.handlers):
        _audit.removeHandler(handler)
        handler.close()
    _audit.setLevel(logging.INFO)
    _audit.propagate = False
    handlers: list[logging.Handler] = [_Stderr()]
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_AuditFile(path, encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"AUDIT_LOG {path} cannot be written: {error.strerror}") from None
    for handler in handlers:
        handler.setFormatter(formatter)
        _audit.addHandler(handler)


def _drop_stream_handlers(logger: logging.Logger) -> None:
    """Remove the handlers that libraries and logging.basicConfig made; others, such as a test's, stay."""
    kinds = {"StreamHandler", "ColorizingStreamHandler", "_Stderr"}
    logger.handlers = [handler for handler in logger.handlers if type(handler).__name__ not in kinds]


class _Quiet(logging.Handler):
    """A handler whose failures do not print the line they failed at."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        kind = sys.exc_info()[0]
        os.write(2, f"a line of {record.name} could not be logged: {kind.__name__ if kind else ''}\n".encode())


class _Stderr(_Quiet, logging.StreamHandler[Any]):
    """Writes to whatever standard error is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _value: Any) -> None:
        pass


class _AuditFile(_Quiet, WatchedFileHandler):
    """A file for the owner alone, opened anew when it was rotated away."""

    def _open(self) -> IO[Any]:  # type: ignore[override]
        return open(self.baseFilename, "a", encoding="utf-8", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_formatter(redact: Callable[[str], str], *, as_json: bool, show: bool) -> logging.Formatter:
    """Return structlog's formatter for records of the standard library."""
    # Imported here, since a stock worker would pay for it with each job that logs nothing.
    from structlog.processors import JSONRenderer
    from structlog.stdlib import ProcessorFormatter

    def render_exception(_logger: Any, _method: str, event: Any) -> Any:
        found = event.pop("exc_info", None)
        if found and found[1] is not None:
            event["exception"] = describe_exception(found[1], content=show)
        return event

    def cleared(_logger: Any, _method: str, line: str) -> str:
        return redact(line)

    render: Any = JSONRenderer(serializer=_to_json) if as_json else _render_text
    chain: list[Any] = [_with_fields, render_exception, render, cleared]
    return ProcessorFormatter(processors=chain)


def _to_json(event: Any, **_options: Any) -> str:
    return json.dumps(event, default=str)


def _with_fields(_logger: Any, _method: str, event: Any) -> Any:
    """Put a line together: only fields given as such are taken, since RQ puts arguments into its `extra`."""
    record: logging.LogRecord = event["_record"]
    made = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event["event"].strip(),
    }
    told = {**_bound.get(), **getattr(record, "fields", {})}
    made |= {name: value for name, value in told.items() if value is not None}
    if "exc_info" in event:
        made["exc_info"] = event["exc_info"]
    return made


def _render_text(_logger: Any, _method: str, event: Any) -> str:
    exception = event.pop("exception", None)
    moment = datetime.fromisoformat(event.pop("timestamp")).astimezone()
    head = f"{moment:%H:%M:%S} {event.pop('level').upper()} {event.pop('logger')}: {event.pop('event')}"
    shown = [f"{name}={json.dumps(value) if ' ' in str(value) else value}" for name, value in event.items()]
    line = _CONTROL.sub(" ", " ".join([head, *shown]))  # a line break in it would forge a line
    return line if exception is None else f"{line}\n{exception}"


def _without_content(record: logging.LogRecord) -> bool:
    """Take from a record what may hold content. False when nothing is left of it."""
    part = record.name.partition(".")[0]
    if part == "rq" and f"{os.sep}rq{os.sep}" in record.pathname:
        return _without_results(record)
    if part in TRUSTED:
        return True
    if record.levelno < logging.WARNING:
        return False
    text = str(record.msg)
    if part == "asyncio":
        record.msg, record.args = text.partition("\n")[0], ()
    elif part == "py":
        shown = _WARNING.match(record.getMessage())
        record.msg, record.args = f"{shown[1] if shown else 'warning'} {WITHHELD}", ()
    elif record.args:
        record.msg, record.args = f"{text} {WITHHELD}", ()
    else:
        record.msg = f"{record.module}:{record.lineno} {WITHHELD}"
    return True


def _without_results(record: logging.LogRecord) -> bool:
    """Take from a line of RQ's what a job returned, and the text of the exception it raised."""
    text = str(record.msg)
    if "result: " in text:
        return False
    if text.endswith("\n%s") and isinstance(record.args, tuple):
        record.msg, record.args = text.removesuffix("\n%s"), record.args[:-1]
        record.exc_info = sys.exc_info()
    if isinstance(record.args, tuple):
        record.args = tuple(type(one).__name__ if isinstance(one, BaseException) else one for one in record.args)
    return True


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("crash").critical("this process ends by an error", exc_info=(kind, error, trace))


def _thread_crashed(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not issubclass(crash.exc_type, SystemExit):
        log = logging.getLogger("crash")
        log.error("a thread ended by an error", exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback))
