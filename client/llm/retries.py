"""The one place where calls of the model provider are retried, spaced out and given up.

A call goes out when the circuit breaker is closed and the rate limiter has room. A failure that may pass (429, 5xx, a
time-out, no connection) is retried after a wait that doubles, is jittered and obeys Retry-After; any other failure (a
wrong key, an unknown model, a content filter) is final. A question makes at most MAX_CALLS calls, embedding and answer
together. A question whose worker died starts with a new count: otherwise two dead workers would use up the calls of
the third.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from client.llm.deadline import Deadline, current_deadline
from errors import ProviderRateLimited, ProviderUnavailable

if TYPE_CHECKING:
    from settings import Settings

log = logging.getLogger(__name__)

MAX_CALLS = 4
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 20.0
# The longest wait for the rate limiter when the job has no deadline.
MAX_RATE_LIMIT_WAIT_SECONDS = 300.0
VALKEY_TIMEOUT_SECONDS = 1.0
# How long calls skip the breaker and the limiter after Valkey did not answer.
UNGUARDED_SECONDS = 5.0
_TRANSIENT_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

T = TypeVar("T")


class ProviderCalls:
    """Calls of the provider, guarded for all workers together. Safe for threads and forks: it connects when called."""

    def __init__(self, settings: Settings) -> None:
        from client.valkey.circuit_breaker import CircuitBreaker
        from client.valkey.rate_limiter import RateLimiter

        valkey = Redis.from_url(
            settings.queue_url,
            socket_timeout=VALKEY_TIMEOUT_SECONDS,
            socket_connect_timeout=VALKEY_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),
            max_connections=10_000,
        )
        limit = settings.provider_requests_per_minute
        self._limiter = None if limit is None else RateLimiter(valkey, limit)
        self._breaker = CircuitBreaker(valkey)
        self._unguarded_until = 0.0

    def call(self, request: Callable[[], T], *, seconds: float) -> T:
        """Return what `request` returns, each attempt within `seconds`.

        Raises ProviderError, the SDK's errors, and what Deadline.check raises.
        """
        deadline = current_deadline()
        retrying: Retrying = Retrying(
            retry=retry_if_exception(lambda error: _is_transient(error) and _can_retry(error, deadline)),
            stop=stop_after_attempt(MAX_CALLS),
            wait=_wait_seconds,
            sleep=deadline.sleep,
            reraise=True,
        )
        result: T = retrying(self._attempt, request, deadline, seconds)
        return result

    def _attempt(self, request: Callable[[], T], deadline: Deadline, seconds: float) -> T:
        from client.llm.http import call_within

        deadline.check()
        self._wait_until_allowed(deadline)
        if not deadline.take_call():
            raise ProviderUnavailable(f"the model provider was asked {MAX_CALLS} times without success; try later")
        try:
            with call_within(seconds):
                result = request()
        except Exception as error:
            deadline.check()  # a job that has ended raises its own error, not the SDK's error for a shut socket
            self._record(failed=_is_outage(error))
            raise
        self._record(failed=False)
        return result

    def _wait_until_allowed(self, deadline: Deadline) -> None:
        """Wait for the rate limiter. Raises ProviderUnavailable while the breaker is open, ProviderRateLimited."""
        if time.monotonic() < self._unguarded_until:
            return
        left = deadline.remaining()
        max_wait = MAX_RATE_LIMIT_WAIT_SECONDS if left is None else left
        try:
            if self._breaker.refuses():
                raise ProviderUnavailable("the model provider is down: calls are paused for some seconds; try later")
            wait = 0.0 if self._limiter is None else self._limiter.reserve(max_wait)
        except (RedisError, OSError):
            self._skip_guards()
            return
        if wait is None:
            raise ProviderRateLimited(
                "too many questions wait for the model provider (PROVIDER_REQUESTS_PER_MINUTE); try later"
            )
        if wait:
            deadline.sleep(wait)

    def _record(self, *, failed: bool) -> None:
        """Report the outcome of a call to the breaker."""
        if time.monotonic() < self._unguarded_until:
            return
        try:
            if failed:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
        except (RedisError, OSError):
            self._skip_guards()

    def _skip_guards(self) -> None:
        self._unguarded_until = time.monotonic() + UNGUARDED_SECONDS


def _is_transient(error: BaseException) -> bool:
    """Return True if the same call may succeed later."""
    import openai

    if isinstance(error, openai.APIStatusError):
        if getattr(error, "code", None) == "insufficient_quota":
            return False
        return error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status_code in _TRANSIENT_STATUSES
    return isinstance(error, openai.APIConnectionError)  # APITimeoutError is a subclass


def _is_outage(error: BaseException) -> bool:
    """Return True if the provider did not answer, or answered with a failure of its own."""
    import openai

    return _is_transient(error) and not isinstance(error, openai.RateLimitError)


def _can_retry(error: BaseException, deadline: Deadline) -> bool:
    """Return True if a call is left, and the wait that the provider asks for is short and ends before the deadline."""
    left = deadline.remaining()
    requested = retry_after(error)
    if requested is not None and (requested > LONGEST_WAIT_SECONDS or (left is not None and requested >= left)):
        return False
    return deadline.calls_left != 0


def _wait_seconds(state: RetryCallState) -> float:
    """Return the seconds before the next attempt, jittered: the provider's Retry-After, or a wait that doubles."""
    error = state.outcome.exception() if state.outcome else None
    doubled = FIRST_WAIT_SECONDS * 2 ** (state.attempt_number - 1)
    backoff = min(LONGEST_WAIT_SECONDS, doubled) * random.uniform(0.5, 1)  # noqa: S311
    requested = retry_after(error) if error else None
    # Jittered too, so that callers with the same Retry-After do not all return at the same time.
    wait: float = backoff if requested is None else requested + backoff * 0.5
    log.info("the model provider failed (%s); trying again in %.1f s", type(error).__name__, wait)
    return wait


def retry_after(error: BaseException) -> float | None:
    """Return how many seconds the provider asks to wait; None if the response has no such header."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    with suppress(ValueError):
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"])) if "retry-after" in headers else None
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(headers["retry-after"]) - datetime.now(UTC)).total_seconds())
    return None
