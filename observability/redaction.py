"""What a log line must not show: secrets, and values that exceptions carry in their messages."""

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
# A shorter one would be found in innocent words; passwords in URLs are hidden whatever their length.
MIN_SECRET_CHARS = 6
MOST_CHAINED = 10
WITHHELD = "(message withheld: LOG_CONTENT=1 shows it)"
# A shape is looked for only in lines that hold one of its marks, in lower case: that takes a microsecond.
_SHAPES = (
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
    """Return what replaces these secrets, and whatever has the shape of one, by `***`."""
    forms = {form for secret in secrets if len(secret) >= MIN_SECRET_CHARS for form in _written(secret)}
    known = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True)))) if forms else None

    def redact(text: str) -> str:
        if known is not None:
            text = known.sub(HIDDEN, text)
        lower = text.lower()
        for marks, shape in _SHAPES:
            if any(mark in lower for mark in marks):
                text = shape.sub(rf"\1{HIDDEN}", text)
        return text

    return redact


def secrets_of(settings: Settings) -> list[str]:
    """Return every secret of the settings, the passwords of their URLs among them."""
    found = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, str) and "://" in value:
            found.append(urlsplit(value).password or "")
    return found


def describe_exception(error: BaseException, *, content: bool) -> str:
    """Return the traceback of an exception and of those that led to it, without the values of variables.

    Unless `content`, it holds the message only of an exception whose messages are known to hold no content.
    """
    if content:
        return "".join(traceback.format_exception(error)).rstrip()
    parts: list[str] = []
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen and len(parts) < MOST_CHAINED:
        seen.add(id(following))
        parts.append(_described(following))
        hidden = following.__suppress_context__
        following = following.__cause__ or (None if hidden else following.__context__)
    return "\nwhich followed from\n".join(parts)


def _described(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    lines = [*traceback.format_tb(error.__traceback__), f"{name}: {_said(error)}"]
    if isinstance(error, BaseExceptionGroup):
        lines += ["\n" + _described(one) for one in error.exceptions[:MOST_CHAINED]]
    return "".join(lines)


def _said(error: BaseException) -> str:
    """Return the message of an exception if its kind never holds what a user sent or a service answered."""
    if isinstance(error, AppError):
        return error.detail
    if isinstance(error, OSError):
        return error.strerror or WITHHELD
    if isinstance(error, ImportError | AttributeError | NameError | SystemExit | KeyboardInterrupt):
        return str(error)
    if type(error).__module__ == "redis.exceptions" and type(error).__name__ in {"ConnectionError", "TimeoutError"}:
        return str(error)
    return WITHHELD


def _written(secret: str) -> set[str]:
    """Return a secret as it may stand in a line: as it is, in JSON, and in what repr() makes of it."""
    forms = {secret, repr(secret)[1:-1]}
    return forms | {json.dumps(form)[1:-1] for form in forms}
