"""How a provider wants to be asked: what it refused is left out, and remembered for its address and model.

A request goes out in its widest form. A response of 400 or 422 that names what it does not take (`stream_options`, the
role `system`, ...) is answered by the same request without that, at once. A refusal that names nothing is answered by
leaving out one after another what the user did not ask for. What helped is kept in Valkey for KEPT_SECONDS, for all
workers. The rest is the user's to change: the refusal is raised.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis.exceptions import RedisError

from client.llm.failures import StatusFailure
from client.valkey import keys

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

# A provider that is upgraded may take more: then it is asked in the widest form again.
KEPT_SECONDS = 7 * 86_400
# A process reads again what others learned after this time.
FRESH_SECONDS = 300.0
# Not the fault of the form: another form would be refused as well.
_OTHER_CODES = ("content_filter", "model_not_found", "invalid_api_key", "insufficient_quota")
_REFUSALS = {400, 422}
# The status of servers that fail while they apply the template of the model, which may not know a role.
_TEMPLATE_FAILED = 500
_ROLES = {"system", "developer"}
# Fields in which errors repeat the request.
_REPEATED = {"input", "ctx", "url"}
# A limit of tokens that is too large is refused by its value, not by its name.
_LIMIT = re.compile(r"max_(?:completion_|output_)?tokens")
_VALUE = re.compile(r"too (?:large|high|big|many)|at most|less than|greater than|exceed|maximum|out of range")
_UNKNOWN = re.compile(r"unsupported|not supported|unknown|unrecognized|unexpected|extra|not permitted|not allowed")

# A fact about a model: it ends reasoning that its text does not begin, since the provider's template begins it.
ENDS_UNOPENED = "ends_unopened"

T = TypeVar("T")


class _Feature:
    """A part of a request that some providers do not take."""

    def __init__(self, name: str, words: str, *, guessed: bool = False) -> None:
        self.name = name
        self.words = re.compile(words)
        self.guessed = guessed  # left out by guess, as nobody asked for it


_FEATURES = (
    _Feature("stream_options", r"stream_options|include_usage", guessed=True),
    _Feature("encoding_format", r"encoding_format|base64", guessed=True),
    _Feature("max_completion_tokens", r"max_completion_tokens", guessed=True),
    _Feature("max_tokens", r"\bmax_tokens|max_output_tokens"),
    _Feature("temperature", r"temperature"),
    _Feature("developer", r"developer"),
    _Feature("system", r"\brole|system[ _-](?:message|prompt|instruction)|[\"'`]system[\"'`]"),
    _Feature("stream", r"\bstream(?:ing|ed)?\b"),
)
_BY_NAME = {feature.name: feature for feature in _FEATURES}


class Dialect:
    """What one model at one address refused so far. Safe for threads."""

    def __init__(self, valkey: Redis, url: str, model: str) -> None:
        digest = hashlib.sha256(f"{url}\n{model}".encode()).hexdigest()
        self._key = keys.provider_dialect(digest)
        self._valkey = valkey
        self._known: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """True if `read` must be called before a request."""
        return time.monotonic() - self._read_at >= FRESH_SECONDS

    def read(self) -> None:
        """Read what all workers learned. Without Valkey this process knows what it learned itself."""
        self._read_at = time.monotonic()
        with suppress(RedisError, OSError):
            stored = cast("set[bytes]", self._valkey.smembers(self._key))
            self._known |= {member.decode(errors="replace") for member in stored}

    @property
    def known(self) -> frozenset[str]:
        """What to leave out, and other facts about the model."""
        return self._known

    def limit(self, name: str) -> int | None:
        """Return a number that was learned as `name:number`, the lowest of several; None if no number was learned."""
        numbers = [int(fact.removeprefix(f"{name}:")) for fact in self._known if fact.startswith(f"{name}:")]
        return min(numbers, default=None)

    def learn(self, names: frozenset[str], *, shared: bool = True) -> None:
        """Remember facts, for all workers or only in this process."""
        if names <= self._known:
            return
        self._known |= names
        if not shared:
            return
        with suppress(RedisError, OSError):
            self._valkey.sadd(self._key, *sorted(names))
            self._valkey.expire(self._key, KEPT_SECONDS)


class Form:
    """The form of one request: it becomes narrower with each refusal."""

    def __init__(self, known: frozenset[str]) -> None:
        self._left_out = set(known)
        self._named: set[str] = set()
        self._guess: str | None = None
        self._guesses: list[str] | None = None
        self._first: StatusFailure | None = None
        self._sent: dict[str, Any] = {}

    @property
    def learned(self) -> frozenset[str]:
        """What the provider refused, once a request has succeeded."""
        return frozenset(self._named | ({self._guess} if self._guess else set()))

    def fit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request in this form."""
        fitted = dict(body)
        left_out = self._left_out
        for name in ("stream_options", "temperature"):
            if name in left_out:
                fitted.pop(name, None)
        if "stream" in left_out and fitted.get("stream"):
            fitted["stream"] = False
            fitted.pop("stream_options", None)
        if "encoding_format" in left_out and fitted.get("encoding_format") == "base64":
            fitted["encoding_format"] = "float"
        if "max_completion_tokens" in left_out and "max_completion_tokens" in fitted:
            fitted["max_tokens"] = fitted.pop("max_completion_tokens")
        if "max_tokens" in left_out:
            fitted.pop("max_tokens", None)
        if left_out & _ROLES and "messages" in fitted:
            fitted["messages"] = _fit_roles(fitted["messages"], left_out)
        self._sent = fitted
        return fitted

    def narrow(self, failure: StatusFailure) -> None:
        """Leave out what the provider refused in the last request. Raises the first refusal if nothing is left."""
        first = self._first = self._first or failure
        if failure.is_too_long:
            raise failure
        if failure.status not in _REFUSALS | {_TEMPLATE_FAILED} or failure.code in _OTHER_CODES:
            raise first
        said = " ".join(_texts(failure.body)).lower()
        present = [feature for feature in _FEATURES if _is_in(feature.name, self._sent)]
        if failure.status == _TEMPLATE_FAILED:
            present = [feature for feature in present if feature.name in _ROLES]
        named = next((feature for feature in present if feature.words.search(said)), None)
        if named is None and self._sent.get("stream") and _BY_NAME["stream_options"].words.search(said):
            named = _BY_NAME["stream"]  # a gateway such as LiteLLM adds the option to every stream
        if _is_about_value(said):
            raise failure
        if named is not None:
            self._left_out.add(named.name)
            self._named.add(named.name)
            self._guesses = None
        elif failure.status in _REFUSALS and not failure.parameter:
            self._take_guess(present, first)
        else:
            raise first
        log.info("the model provider refuses %s; asking without", named.name if named else f"perhaps {self._guess}")

    def _take_guess(self, present: list[_Feature], first: StatusFailure) -> None:
        if self._guesses is None:
            self._guesses = [feature.name for feature in present if feature.guessed]
        if not self._guesses:
            raise first
        self._guess = self._guesses.pop(0)
        self._left_out.add(self._guess)


async def ask_in_form(dialect: Dialect, body: dict[str, Any], send: Callable[[dict[str, Any]], Awaitable[T]]) -> T:
    """Return what `send` returns for a request in the form that the provider takes. Raises CallFailure."""
    form = Form(dialect.known)
    while True:
        try:
            result = await send(form.fit(body))
        except StatusFailure as failure:
            form.narrow(failure)
        else:
            dialect.learn(form.learned)
            return result


def ask_in_form_sync(dialect: Dialect, send: Callable[[Callable[[dict[str, Any]], dict[str, Any]]], T]) -> T:
    """As `ask_in_form`, and block until then. `send` receives a function that returns a request in the right form."""
    form = Form(dialect.known)
    while True:
        try:
            result = send(form.fit)
        except StatusFailure as failure:
            form.narrow(failure)
        else:
            dialect.learn(form.learned)
            return result


def _is_in(name: str, sent: Mapping[str, Any]) -> bool:
    """Return True if a request has a feature."""
    if name in _ROLES:
        return any(message["role"] == name for message in sent.get("messages", ()))
    if name == "encoding_format":
        return sent.get(name) == "base64"
    return bool(sent.get(name)) if name == "stream" else name in sent


def _texts(said: Any) -> Iterator[str]:
    """Yield the texts of an error, without those in which it repeats the request."""
    if isinstance(said, Mapping):
        for name, value in said.items():
            if name not in _REPEATED:
                yield from _texts(value)
    elif isinstance(said, list):
        for value in said:
            yield from _texts(value)
    elif isinstance(said, str):
        yield said


def _is_about_value(said: str) -> bool:
    """Return True if a limit of tokens is refused for its number."""
    return bool(_LIMIT.search(said) and _VALUE.search(said)) and not _UNKNOWN.search(said)


def _fit_roles(messages: list[dict[str, Any]], left_out: set[str]) -> list[dict[str, Any]]:
    """Return messages whose rules have the role `system`, or stand at the beginning of the user's message."""
    rules = [message["content"] for message in messages if message["role"] in _ROLES]
    others = [message for message in messages if message["role"] not in _ROLES]
    if "system" not in left_out:
        return [{"content": text, "role": "system"} for text in rules] + others
    first, *rest = others
    return [first | {"content": "\n\n".join([*rules, first["content"]])}, *rest]
