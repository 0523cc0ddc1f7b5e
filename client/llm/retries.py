"""Calls of the model provider: the one place where they are retried, spaced out, and given up.

A call goes out when the breaker lets it and the bucket has a place. When it fails in a way that may pass (429, 5xx,
a time-out, no connection) it is made again, after a wait that grows, is jittered, and obeys Retry-After; a question
makes at most MAX_CALLS calls in all, embedding and answer together; one whose worker died begins anew, and counts anew:
else the death of two workers would use up the calls of the third. Whatever would not pass (a wrong key, an unknown
model, a filter) fails at once.
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
# A call waits no longer than this for its turn when its job has no deadline.
MOST_PATIENCE_SECONDS = 300.0
VALKEY_TIMEOUT_SECONDS = 1.0
# After Valkey did not answer, calls go out unguarded for so long.
UNGUARDED_SECONDS = 5.0
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

T = TypeVar("T")


class Provider:
    """The way to one provider. Safe for threads and forks: it connects to Valkey with its first call."""

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
        self._bucket = None if limit is None else RateLimiter(valkey, limit)
        self._breaker = CircuitBreaker(valkey)
        self._unguarded_until = 0.0

    def call(self, work: Callable[[], T], *, seconds: float) -> T:
        """Make a call, each try within `seconds`. Raises ProviderError, the SDK's errors, those of Deadline.check."""
        deadline = current_deadline()
        retrying: Retrying = Retrying(
            retry=retry_if_exception(lambda error: _may_pass(error) and _affordable(error, deadline)),
            stop=stop_after_attempt(MAX_CALLS),
            wait=_wait,
            sleep=deadline.sleep,
            reraise=True,
        )
        answer: T = retrying(self._try, work, deadline, seconds)
        return answer

    def _try(self, work: Callable[[], T], deadline: Deadline, seconds: float) -> T:
        from client.llm.http import call_within

        deadline.check()
        self._wait_for_turn(deadline)
        if not deadline.take_call():
            raise ProviderUnavailable(f"the model provider was asked {MAX_CALLS} times without success; try later")
        try:
            with call_within(seconds):
                answer = work()
        except Exception as error:
            deadline.check()  # the error the SDK makes of a stopped job is of no interest
            self._tell(failed=_is_outage(error))
            raise
        self._tell(failed=False)
        return answer

    def _wait_for_turn(self, deadline: Deadline) -> None:
        if time.monotonic() < self._unguarded_until:
            return
        left = deadline.remaining()
        patience = MOST_PATIENCE_SECONDS if left is None else left
        try:
            if self._breaker.refuses():
                raise ProviderUnavailable("the model provider is down: calls are paused for some seconds; try later")
            wait = 0.0 if self._bucket is None else self._bucket.reserve(patience)
        except (RedisError, OSError):
            self._go_unguarded()
            return
        if wait is None:
            raise ProviderRateLimited(
                "too many questions wait for the model provider (PROVIDER_REQUESTS_PER_MINUTE); try later"
            )
        if wait:
            deadline.sleep(wait)

    def _tell(self, *, failed: bool) -> None:
        if time.monotonic() < self._unguarded_until:
            return
        try:
            if failed:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
        except (RedisError, OSError):
            self._go_unguarded()

    def _go_unguarded(self) -> None:
        self._unguarded_until = time.monotonic() + UNGUARDED_SECONDS


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    import openai

    if isinstance(error, openai.APIStatusError):
        if getattr(error, "code", None) == "insufficient_quota":
            return False
        return error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status_code in _PASSING
    return isinstance(error, openai.APIConnectionError)  # a time-out is one too


def _is_outage(error: BaseException) -> bool:
    """Whether the provider failed to answer at all."""
    import openai

    return _may_pass(error) and not isinstance(error, openai.RateLimitError)


def _affordable(error: BaseException, deadline: Deadline) -> bool:
    """Whether another try is allowed and could end before the job must."""
    left = deadline.remaining()
    asked = retry_after(error)
    if asked is not None and (asked > LONGEST_WAIT_SECONDS or (left is not None and asked >= left)):
        return False
    return deadline.calls_left != 0


def _wait(state: RetryCallState) -> float:
    """Wait as long as the provider asks for, and at least a jittered, doubling time of our own."""
    error = state.outcome.exception() if state.outcome else None
    own = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (state.attempt_number - 1)) * random.uniform(0.5, 1)  # noqa: S311
    asked = retry_after(error) if error else None
    wait: float = own if asked is None else asked + own * 0.5  # those told the same time must not all come at it
    log.info("the model provider failed (%s); trying again in %.1f s", type(error).__name__, wait)
    return wait


def retry_after(error: BaseException) -> float | None:
    """Read how long the provider asks to wait, in seconds; None when it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    with suppress(ValueError):
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"])) if "retry-after" in headers else None
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(headers["retry-after"]) - datetime.now(UTC)).total_seconds())
    return None
