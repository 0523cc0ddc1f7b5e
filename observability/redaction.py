"""Redaction of log lines: secrets, and the messages of exceptions, which may hold content."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from pydantic import SecretStr

from errors import AppError
from settings import Settings

HIDDEN = "***"
# A shorter secret would also match in ordinary words. Passwords in URLs are hidden at any length.
MIN_SECRET_CHARS = 6
MAX_CHAINED_EXCEPTIONS = 10
WITHHELD = "(message withheld: LOG_CONTENT=1 shows it)"
# Texts that mark a secret, in lower case, and the pattern that finds it. The pattern runs only on lines that contain a
# mark: looking for the marks takes a microsecond.
_SECRET_PATTERNS = (
    (("earer ", "asic "), re.compile(r"(\b(?:[Bb]earer|[Bb]asic)\s+)[^\s\"'\\,;]+")),
    (
        ("authorization", "api-key", "api_key"),
        re.compile(
            r"(\b(?:authorization|x-api-key|api[_-]key)[\"'\\]*\s*[:=,]\s*b?[\"'\\]*(?:(?:bearer|basic)\s+)?)[^\s\"'\\,;]+",
            re.IGNORECASE,
        ),
    ),
    (("://",), re.compile(r"(://[^\s/:@\"'\\]*:)[^\s/@\"'\\]+(?=@)")),
    (("rag_",), re.compile(r"()\brag_[A-Za-z0-9_-]{16,}")),
    (("whsec_",), re.compile(r"()\bwhsec_[A-Za-z0-9+/=_-]{16,}")),
    (("sk-",), re.compile(r"()\bsk-[A-Za-z0-9_-]{16,}")),
    (("eyj",), re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?")),
)


def make_redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces these secrets, and any text in the form of a secret, by `***`."""
    forms = {form for secret in secrets if len(secret) >= MIN_SECRET_CHARS for form in _written_forms(secret)}
    known = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True)))) if forms else None

    def redact(text: str) -> str:
        if known is not None:
            text = known.sub(HIDDEN, text)
        lower = text.lower()
        for marks, pattern in _SECRET_PATTERNS:
            if any(mark in lower for mark in marks):
                text = pattern.sub(rf"\1{HIDDEN}", text)
        return text

    return redact


def secrets_of(settings: Settings) -> list[str]:
    """Return every secret of the settings, including the passwords in URLs."""
    secrets = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            secrets.append(value.get_secret_value())
        elif isinstance(value, str) and "://" in value:
            secrets.append(urlsplit(value).password or "")
    return secrets


def describe_exception(error: BaseException, *, content: bool) -> str:
    """Return the traceback of an exception and of its causes, at most MAX_CHAINED_EXCEPTIONS.

    Unless `content` is True, messages are withheld except those of exceptions known to contain no content.
    """
    if content:
        return "".join(traceback.format_exception(error)).rstrip()
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(parts) < MAX_CHAINED_EXCEPTIONS:
        seen.add(id(current))
        parts.append(_traceback(current))
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "\ncaused by\n".join(parts)


def _traceback(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    lines = [*traceback.format_tb(error.__traceback__), f"{name}: {_message(error)}"]
    if isinstance(error, BaseExceptionGroup):
        lines += ["\n" + _traceback(member) for member in error.exceptions[:MAX_CHAINED_EXCEPTIONS]]
    return "".join(lines)


def _message(error: BaseException) -> str:
    """Return the message of an exception if its type never holds what a user sent or a service answered."""
    if isinstance(error, AppError):
        return error.detail
    if isinstance(error, OSError):
        return error.strerror or WITHHELD
    if isinstance(error, ImportError | AttributeError | NameError | SystemExit | KeyboardInterrupt):
        return str(error)
    if type(error).__module__ == "redis.exceptions" and type(error).__name__ in {"ConnectionError", "TimeoutError"}:
        return str(error)
    return WITHHELD


def _written_forms(secret: str) -> set[str]:
    """Return a secret in each form in which a line may hold it: plain, in JSON and in repr()."""
    forms = {secret, repr(secret)[1:-1]}
    return forms | {json.dumps(form)[1:-1] for form in forms}
