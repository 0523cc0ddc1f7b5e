"""Log lines in one form, with ids instead of content; and the audit log of security events.

Modules log with the standard library; `extra=fields(...)` adds fields for programs that read the log. A line of a
library is shown in full only if the library is known to log no content. `LOG_CONTENT=1` shows content too, but no
setting ever shows a secret.
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

# Our loggers, and the loggers of libraries whose messages contain no content.
TRUSTED_LOGGERS = {"api", "audit", "client", "crash", "events", "main", "queues", "rq", "traces", "uvicorn", "webhooks"}
# Loggers to which libraries add handlers. Our handler replaces them.
_LIBRARY_LOGGERS = ("rq.worker", "rq.job", "uvicorn", "uvicorn.error", "uvicorn.access")
_CONTROL_CHARS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_WARNING_HEAD = re.compile(r"(.*?:\d+: \w+):")

_audit = logging.getLogger("audit")
_context_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default=MappingProxyType({}))
_show_content = False
_configured = False


def add_context(**values: Any) -> None:
    """Add fields to all further lines of this request or job (of the current contextvars context)."""
    _context_fields.set({**_context_fields.get(), **values})


def context_value(name: str) -> str | None:
    """Return a field that is added to the lines of this request or job; None without the field."""
    value = _context_fields.get().get(name)
    return value if isinstance(value, str) else None


@contextmanager
def context(**values: Any) -> Iterator[None]:
    """Add fields to all lines within the `with` block."""
    token = _context_fields.set({**_context_fields.get(), **values})
    try:
        yield
    finally:
        _context_fields.reset(token)


def fields(**values: Any) -> dict[str, Any]:
    """Return the `extra` of a log call that adds these fields to its line. A field of None is left out."""
    return {"fields": values}


def audit(event: str, **values: Any) -> None:
    """Write a security event to the audit log, with ids of the user and the object.

    The line is JSON and does not depend on LOG_LEVEL.
    """
    _audit.info(event, extra=fields(**values))


def log_content(log: logging.Logger, event: str, **values: Any) -> None:
    """Log an event whose fields are questions or answers; does nothing unless LOG_CONTENT=1."""
    if _show_content:
        log.info(event, extra=fields(**values))


def configure(settings: Settings, *, level: str | None = None, audit_to_stderr: bool = True) -> None:
    """Send all log lines of this process to standard error in one form. May be called again.

    `level` replaces LOG_LEVEL. `audit_to_stderr` is False for a command that a user types and waits for: its audit
    lines go to AUDIT_LOG only, so that they do not stand between the lines that the command prints.

    Raises SettingsError if AUDIT_LOG cannot be written.
    """
    global _show_content, _configured
    _show_content = settings.log_content
    redact = make_redactor(secrets_of(settings))
    handler = _StderrHandler()
    handler.addFilter(_strip_content if not settings.log_content else lambda _record: True)
    as_json = settings.log_format == "json"
    handler.setFormatter(_make_formatter(redact, as_json=as_json, show_content=settings.log_content))
    for name in ("", *_LIBRARY_LOGGERS):
        _drop_stream_handlers(logging.getLogger(name))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level or settings.log_level)
    # RQ sets the level of its logger to INFO.
    logging.getLogger("rq.worker").setLevel(level or settings.log_level)
    _configure_audit(
        settings.audit_log,
        _make_formatter(redact, as_json=True, show_content=settings.log_content),
        to_stderr=audit_to_stderr,
    )
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash
    _configured = True


def configure_once(settings: Callable[[], Settings]) -> None:
    """Configure unless this process already has: for a job in a stock RQ worker."""
    if not _configured:
        configure(settings())


def _configure_audit(path: Path | None, formatter: logging.Formatter, *, to_stderr: bool) -> None:
    for handler in list(_audit.handlers):
        _audit.removeHandler(handler)
        handler.close()
    _audit.setLevel(logging.INFO)
    _audit.propagate = False
    handlers: list[logging.Handler] = [_StderrHandler()] if to_stderr else [logging.NullHandler()]
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_AuditFileHandler(path, encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"AUDIT_LOG {path} cannot be written: {error.strerror}") from None
    for handler in handlers:
        handler.setFormatter(formatter)
        _audit.addHandler(handler)


def _drop_stream_handlers(logger: logging.Logger) -> None:
    """Remove the handlers of libraries and logging.basicConfig; keep other handlers, such as the handler of a test."""
    kinds = {"StreamHandler", "ColorizingStreamHandler", "_StderrHandler"}
    logger.handlers = [handler for handler in logger.handlers if type(handler).__name__ not in kinds]


class _NoEchoHandler(logging.Handler):
    """A handler that reports a failure without printing the failed record, which may contain content."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        kind = sys.exc_info()[0]
        os.write(2, f"a line of {record.name} could not be logged: {kind.__name__ if kind else ''}\n".encode())


class _StderrHandler(_NoEchoHandler, logging.StreamHandler[Any]):
    """Writes to the current sys.stderr, also after a test or a library has replaced it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _value: Any) -> None:
        pass


class _AuditFileHandler(_NoEchoHandler, WatchedFileHandler):
    """Writes to a file that only its owner can read; opens the file again after a log rotation."""

    def _open(self) -> IO[Any]:  # type: ignore[override]
        return open(self.baseFilename, "a", encoding="utf-8", opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_formatter(redact: Callable[[str], str], *, as_json: bool, show_content: bool) -> logging.Formatter:
    """Return structlog's formatter for records of the standard library."""
    # Imported here: a stock worker would pay for the import in each job, also in one that logs nothing.
    from structlog.processors import JSONRenderer
    from structlog.stdlib import ProcessorFormatter

    def render_exception(_logger: Any, _method: str, event: Any) -> Any:
        exc_info = event.pop("exc_info", None)
        if exc_info and exc_info[1] is not None:
            event["exception"] = describe_exception(exc_info[1], content=show_content)
        return event

    def redact_line(_logger: Any, _method: str, line: str) -> str:
        return redact(line)

    render: Any = JSONRenderer(serializer=_to_json) if as_json else _render_text
    chain: list[Any] = [_event_fields, render_exception, render, redact_line]
    return ProcessorFormatter(processors=chain)


def _to_json(event: Any, **_options: Any) -> str:
    return json.dumps(event, default=str)


def _event_fields(_logger: Any, _method: str, event: Any) -> Any:
    """Return the fields of a line. Of `extra` only `fields` is used: RQ puts the arguments of jobs into other keys."""
    record: logging.LogRecord = event["_record"]
    line = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event["event"].strip(),
    }
    added = {**_context_fields.get(), **getattr(record, "fields", {})}
    line |= {name: value for name, value in added.items() if value is not None}
    if "exc_info" in event:
        line["exc_info"] = event["exc_info"]
    return line


def _render_text(_logger: Any, _method: str, event: Any) -> str:
    exception = event.pop("exception", None)
    moment = datetime.fromisoformat(event.pop("timestamp")).astimezone()
    head = f"{moment:%H:%M:%S} {event.pop('level').upper()} {event.pop('logger')}: {event.pop('event')}"
    shown = [f"{name}={_to_json(value) if ' ' in str(value) else value}" for name, value in event.items()]
    line = _CONTROL_CHARS.sub(" ", " ".join([head, *shown]))  # a line break would start a forged line
    return line if exception is None else f"{line}\n{exception}"


def _strip_content(record: logging.LogRecord) -> bool:
    """Remove from a record every part that may hold content; return False if the line is dropped."""
    top = record.name.partition(".")[0]
    if top == "rq" and f"{os.sep}rq{os.sep}" in record.pathname:
        return _strip_results(record)
    if top in TRUSTED_LOGGERS:
        return True
    if record.levelno < logging.WARNING:
        return False
    text = str(record.msg)
    if top == "asyncio":
        record.msg, record.args = text.partition("\n")[0], ()
    elif top == "py":
        place = _WARNING_HEAD.match(record.getMessage())
        record.msg, record.args = f"{place[1] if place else 'warning'} {WITHHELD}", ()
    elif record.args:
        record.msg, record.args = f"{text} {WITHHELD}", ()
    else:
        record.msg = f"{record.module}:{record.lineno} {WITHHELD}"
    return True


def _strip_results(record: logging.LogRecord) -> bool:
    """Remove from a record of RQ the result of a job and the text of its exception; return False to drop the line."""
    text = str(record.msg)
    if "result: " in text:
        return False
    if text.endswith("\n%s") and isinstance(record.args, tuple):
        record.msg, record.args = text.removesuffix("\n%s"), record.args[:-1]
        record.exc_info = sys.exc_info()
    if isinstance(record.args, tuple):
        record.args = tuple(type(arg).__name__ if isinstance(arg, BaseException) else arg for arg in record.args)
    return True


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("crash").critical("an error ends this process", exc_info=(kind, error, trace))


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not issubclass(crash.exc_type, SystemExit):
        log = logging.getLogger("crash")
        log.error("an error ended a thread", exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback))
