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

from errors import (
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
_TRANSIENT_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


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


class StatusFailure(CallFailure):
    """A response with the status of an error. `said` is the provider's text: only for the log, with LOG_CONTENT=1."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str]) -> None:
        super().__init__(f"status {status}")
        error = body.get("error", body) if isinstance(body, dict) else None
        fields = error if isinstance(error, dict) else {}
        self.status = status
        self.code: object = fields.get("code") or fields.get("type")
        self.said = fields.get("message") or body
        self.transient = (status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES) and fields.get(
            "code"
        ) != "insufficient_quota"
        self.outage = self.transient and status != HTTPStatus.TOO_MANY_REQUESTS
        self.retry_after = _retry_after(headers)


@contextmanager
def provider_errors() -> Iterator[None]:
    """Translate failures of calls to ProviderError, without texts and causes that may hold the key or the question."""
    try:
        yield
    except CallTimeout:
        raise ProviderTimeout("the model provider did not answer in time; try again or choose a faster model") from None
    except NoConnection:
        raise ProviderUnavailable(
            "the model provider cannot be reached: check OPENAI_BASE_URL and the network"
        ) from None
    except StatusFailure as failure:
        raise _status_error(failure) from None
    except CallFailure as failure:
        raise ProviderError(f"the model provider failed: {failure.name}") from None
    except ValueError as error:  # an answer that is no JSON, or lacks required fields
        logs.log_content(log, "the model provider's answer makes no sense", said=str(error))
        raise ProviderError("the model provider's answer makes no sense (LOG_CONTENT=1 logs why)") from None


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
    code = failure.code
    shown = f" ({code})" if isinstance(code, str) and _CODE.fullmatch(code) else ""
    if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderUnavailable(f"the model provider failed with {failure.status}{shown}; try later")
    return ProviderError(
        f"the model provider refused the request with {failure.status}{shown}; "
        "LOG_CONTENT=1 logs the provider's message"
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the provider asks to wait; None if the response has no such header."""
    with suppress(ValueError):
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"])) if "retry-after" in headers else None
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(headers["retry-after"]) - datetime.now(UTC)).total_seconds())
    return None
