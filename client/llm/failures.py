"""Failures of calls of the model provider, and the errors that users see of them.

The HTTP client and the SDK each translate their own exceptions to a CallFailure. So retries, the circuit breaker and
the errors for users know one kind of failure, and no question needs the SDK, whose import takes 0.7 s and 50 MB.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from errors import (
    ContentFiltered,
    ModelNotFound,
    ProviderError,
    ProviderKeyRejected,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from observability import logs

log = logging.getLogger("client.llm.chat")

# A proxy's page of HTML is cut in the log.
MAX_SAID_CHARS = 2_000
# The form of providers' error codes. Text of another form may repeat the question or the key.
_CODE = re.compile(r"[a-z][a-z0-9_]{0,59}")
_LENGTH_STATUSES = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
_TRANSIENT_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


_FILTER_CODES = ("content_filter", "content_policy_violation", "data_inspection_failed")
FILTERED = (
    "the model provider's content filter withheld the answer (content_filter): ask in other words, or change the "
    "filter in the provider's settings"
)
_TOO_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error")  # of OpenAI and vLLM; of llama.cpp
TOO_LONG = (
    "the question and its passages are longer than the model's window: lower CONTEXT_TOKENS, or ask a larger model"
)
# In the words of providers that send no code of their own for it.
_TOO_LONG_WORDS = re.compile(
    r"context (?:length|window|size)|(?:prompt|input|request|inputs) is too long|reduce the length|too many tokens"
    r"|maximum number of tokens|exceeds? the (?:available )?context|max_new_tokens` must be"
)
# A limit on the answer alone, whose refusal may name the window too.
_ANSWER_TOO_LONG = re.compile(r"max_(?:completion_|output_)?tokens[\"'`]? ?(?:is|are) too (?:large|high)")
# Words in the code or the type of an error, and the status that it would have had.
_STATUS_OF_WORDS = (
    (HTTPStatus.TOO_MANY_REQUESTS, re.compile(r"rate|quota|too_many|throttl|billing")),
    (HTTPStatus.UNAUTHORIZED, re.compile(r"auth|api_key|permission")),
    (HTTPStatus.NOT_FOUND, re.compile(r"not_?found|no_such")),
    (HTTPStatus.BAD_REQUEST, re.compile(r"invalid|unsupported|bad_?request|context|too_long|filter|policy|inspection")),
)


class CallFailure(Exception):
    """A call that failed. `name` says how, and holds no text of the provider.

    `transient` is True if the same call may succeed later, `outage` if the provider did not answer, or answered with a
    failure of its own. `retry_after` is the wait in seconds that the provider asks for; None if it asks for none.
    """

    transient = False
    outage = False
    retry_after: float | None = None

    def __init__(self, name: str = "") -> None:
        self.name = name or type(self).__name__
        super().__init__(self.name)


class NoConnection(CallFailure):
    """The provider cannot be reached, or the connection was lost."""

    transient = outage = True


class CallTimeout(CallFailure):
    """The provider did not answer in time."""

    transient = outage = True


class EmbeddingTimeout(CallFailure):
    """The embedding of a question took too long, and would again. `name` is the time."""

    outage = True


class AnswerTimeout(CallFailure):
    """The model read or paused for too long, and would from the start. `name` says which limit it reached."""

    outage = True


class AnswerCutOff(CallFailure):
    """The answer ended before the provider said that it was complete."""

    transient = True


class WebPage(CallFailure):
    """A page of HTML instead of an answer."""


class BadVectors(CallFailure):
    """Embeddings that cannot be used. `name` says why: "gave 2 vectors for 3 texts"."""


class AnswerFiltered(CallFailure):
    """The provider's content filter withheld the answer or a part of it."""


class AnswerEmpty(CallFailure):
    """The answer has no text. `name` says what there was instead."""


class StatusFailure(CallFailure):
    """A response with the status of an error. `said` is the provider's text: only for the log, with LOG_CONTENT=1."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str]) -> None:
        super().__init__(f"status {status}")
        error = body.get("error", body) if isinstance(body, dict) else None
        fields = error if isinstance(error, dict) else {}
        self.status = status
        self.body = body
        self.code: object = fields.get("code") or fields.get("type")
        self.parameter = _parameter(body, fields)
        self.said = fields.get("message") or body
        self.transient = (status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES) and fields.get(
            "code"
        ) != "insufficient_quota"
        self.outage = self.transient and status != HTTPStatus.TOO_MANY_REQUESTS
        self.retry_after = _retry_after(headers)

    @property
    def text(self) -> str:
        """What the provider says, in lower case."""
        return str(self.said).lower()

    @property
    def is_too_long(self) -> bool:
        """True if the prompt does not fit into the model's window."""
        if self.code in _TOO_LONG_CODES:
            return True
        if self.status not in _LENGTH_STATUSES or self.code in _FILTER_CODES:
            return False
        return bool(_TOO_LONG_WORDS.search(self.text)) and not _ANSWER_TOO_LONG.search(self.text)


_ERRORS: dict[type[CallFailure], tuple[type[ProviderError], str]] = {
    CallTimeout: (ProviderTimeout, "the model provider did not answer in time; try again or choose a faster model"),
    NoConnection: (ProviderUnavailable, "the model provider cannot be reached: check OPENAI_BASE_URL and the network"),
    AnswerTimeout: (ProviderTimeout, "the model {}; choose a faster model, lower CONTEXT_TOKENS, or raise the setting"),
    EmbeddingTimeout: (
        ProviderTimeout,
        "the embedding model did not answer within {}: choose a faster EMBEDDING_MODEL, or `bm25` to search by words",
    ),
    AnswerCutOff: (
        ProviderUnavailable,
        "the model provider broke off its answers before they were complete; try later",
    ),
    WebPage: (
        ProviderError,
        "the model provider answered with a web page: check OPENAI_BASE_URL (it usually ends in /v1)",
    ),
    AnswerFiltered: (ContentFiltered, FILTERED),
    AnswerEmpty: (ProviderError, "the model gave no answer: {}"),
    BadVectors: (ProviderError, "the embedding model {}: check EMBEDDING_MODEL, which must embed text"),
}


def reported_failure(fields: Mapping[str, Any]) -> StatusFailure | None:
    """Return the failure that a provider reports within a response of success; None if it reports none.

    Its status is the number that the report names, or else the status that goes with the words of its code. An error of
    an unknown kind counts as the provider's own failure, as a 503 does.
    """
    whole = fields.get("object") == "error" or (not fields.get("choices") and not fields.get("data"))
    error = fields.get("error") or (fields if whole and (fields.get("message") or fields.get("detail")) else None)
    if not error:
        return None
    return StatusFailure(_status_of(error if isinstance(error, dict) else {}), fields, {})


def _status_of(error: Mapping[str, Any]) -> int:
    for number in (error.get("code"), error.get("status"), error.get("status_code")):
        if str(number).isdigit() and HTTPStatus.BAD_REQUEST <= int(str(number)) < 600:  # noqa: PLR2004  the last status
            return int(str(number))
    words = f"{error.get('code')} {error.get('type')} {error.get('status')}".lower()
    return next((status for status, known in _STATUS_OF_WORDS if known.search(words)), HTTPStatus.SERVICE_UNAVAILABLE)


@contextmanager
def provider_errors() -> Iterator[None]:
    """Translate failures of calls to ProviderError, without texts and causes that may hold the key or the question."""
    try:
        yield
    except StatusFailure as failure:
        if failure.code in _FILTER_CODES:
            raise ContentFiltered(FILTERED) from None
        if failure.is_too_long:
            raise ProviderError(TOO_LONG) from None
        raise _status_error(failure) from None
    except CallFailure as failure:
        kind, detail = _ERRORS.get(type(failure), (ProviderError, "the model provider failed: {}"))
        raise kind(detail.format(failure.name)) from None
    except ValueError as error:  # an answer that is no JSON, or lacks required fields
        logs.log_content(log, "the model provider's answer makes no sense", said=str(error))
        raise ProviderError(
            "the model provider's answer makes no sense: check OPENAI_BASE_URL and the model (LOG_CONTENT=1 logs why)"
        ) from None


def _status_error(failure: StatusFailure) -> ProviderError:
    """Return the error for a status, with the provider's error code but never its text."""
    match failure.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return ProviderKeyRejected("the model provider rejected the key: check OPENAI_API_KEY")
        case HTTPStatus.NOT_FOUND:
            return ModelNotFound(
                "the model provider does not know the model or the address: "
                "check CHAT_MODEL, EMBEDDING_MODEL and OPENAI_BASE_URL (it usually ends in /v1)"
            )
        case HTTPStatus.TOO_MANY_REQUESTS:
            return ProviderRateLimited("the model provider limits the rate, or the account is out of credit; try later")
        case status if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return ProviderError(
                f"the model provider redirects to another address ({status}): set OPENAI_BASE_URL to that address"
            )
    logs.log_content(log, "the model provider refused", status=failure.status, said=str(failure.said)[:MAX_SAID_CHARS])
    known = [said for said in (failure.code, failure.parameter) if isinstance(said, str) and _CODE.fullmatch(said)]
    shown = f" ({': '.join(known)})" if known else ""
    if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderUnavailable(f"the model provider failed with {failure.status}{shown}; try later")
    return ProviderError(
        f"the model provider refused the request with {failure.status}{shown}; "
        "LOG_CONTENT=1 logs the provider's message"
    )


def _parameter(body: object, error: Mapping[str, Any]) -> object:
    """Return the parameter that an error names: as `param`, or as the place where FastAPI found it."""
    if error.get("param"):
        return error["param"]
    message = error.get("message")
    detail = (message if isinstance(message, dict) else body if isinstance(body, dict) else {}).get("detail")
    place = detail[0].get("loc") if isinstance(detail, list) and detail and isinstance(detail[0], dict) else None
    return place[-1] if isinstance(place, list) and place else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the provider asks to wait; None if the response has no such header."""
    with suppress(ValueError):
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"])) if "retry-after" in headers else None
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(headers["retry-after"]) - datetime.now(UTC)).total_seconds())
    return None
