"""The one place where calls of the model provider are retried, spaced out and given up.

A call goes out when the circuit breaker is closed and the rate limiter has room. A failure that may pass (429, 5xx, a
time-out, no connection) is retried after a wait that doubles, is jittered and obeys Retry-After; any other failure (a
wrong key, an unknown model, a content filter) is final. A question makes at most MAX_CALLS calls, embedding and answer
together. A question whose worker died starts with a new count: otherwise two dead workers would use up the calls of
the third.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from client.llm.deadline import Deadline, current_deadline
from client.llm.dialect import Dialect
from client.llm.failures import CallFailure, CallTimeout
from client.llm.measuring import Operation, measured_call
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
VALKEY_THREADS = 4
# How long calls skip the breaker and the limiter after Valkey did not answer.
UNGUARDED_SECONDS = 5.0
# uvloop's timers may end up to 1 ms early. A call that ends with its job ends after the job's deadline.
TIMER_SECONDS = 0.002

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
        self._valkey = valkey
        self._dialects: dict[tuple[str, str], Dialect] = {}
        self._limiter = None if limit is None else RateLimiter(valkey, limit)
        self._breaker = CircuitBreaker(valkey)
        self._unguarded_until = 0.0

    async def call(self, operation: Operation, request: Callable[[], Awaitable[T]], *, seconds: float | None) -> T:
        """Return what `request` returns, each attempt within `seconds`; None for the time that the job has left.

        Raises ProviderError, CallFailure, and what Deadline.check raises. The loop is never blocked: what needs Valkey
        runs in a thread.
        """
        deadline = current_deadline()
        retrying = AsyncRetrying(**_options(deadline), sleep=deadline.sleep_async)
        with deadline.cancelling_on_stop():
            result: T = await retrying(self._attempt, operation, request, deadline, seconds)
        return result

    async def dialect(self, url: str, model: str) -> Dialect:
        """Return how a model at an address wants to be asked."""
        dialect = self._dialect(url, model)
        if dialect.is_due:
            await asyncio.get_running_loop().run_in_executor(self._threads, dialect.read)
        return dialect

    def dialect_sync(self, url: str, model: str) -> Dialect:
        """As `dialect`, and block until then."""
        dialect = self._dialect(url, model)
        if dialect.is_due:
            dialect.read()
        return dialect

    def _dialect(self, url: str, model: str) -> Dialect:
        return self._dialects.setdefault((url, model), Dialect(self._valkey, url, model))

    def call_sync(self, operation: Operation, request: Callable[[], T], *, seconds: float) -> T:
        """Return what `request` returns, as `call` does, and block until then."""
        deadline = current_deadline()
        retrying = Retrying(**_options(deadline), sleep=deadline.sleep)
        result: T = retrying(self._attempt_sync, operation, request, deadline, seconds)
        return result

    async def _attempt(
        self, operation: Operation, request: Callable[[], Awaitable[T]], deadline: Deadline, seconds: float | None
    ) -> T:
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._threads)
        if admit := self._admission(deadline):
            await deadline.sleep_async(await in_thread(admit))
        await deadline.wait_out_doubt_async()
        _take_call(deadline)
        try:
            with measured_call(operation):
                result = await _bounded(request, deadline, seconds)
        except Exception as error:
            deadline.check()  # a job that has ended raises its own error
            if report := self._report(error):
                await in_thread(report)
            raise
        if report := self._report(None):
            await in_thread(report)
        return result

    def _attempt_sync(self, operation: Operation, request: Callable[[], T], deadline: Deadline, seconds: float) -> T:
        from client.llm.sync_http import call_within

        if admit := self._admission(deadline):
            deadline.sleep(admit())
        deadline.wait_out_doubt()
        _take_call(deadline)
        try:
            with measured_call(operation), call_within(seconds):
                result = request()
        except Exception as error:
            deadline.check()  # a job that has ended raises its own error, not the failure of a shut socket
            if report := self._report(error):
                report()
            raise
        if report := self._report(None):
            report()
        return result

    def _admission(self, deadline: Deadline) -> Callable[[], float] | None:
        """Return what must be done before a call, with Valkey; None if a call may go out. Raises as Deadline.check."""
        left = deadline.remaining()
        if time.monotonic() < self._unguarded_until:
            return None
        look = self._breaker.is_due()
        return partial(self._admit, left, look=look) if look or self._limiter else None

    def _admit(self, left: float | None, *, look: bool) -> float:
        """Return how many seconds a call has to wait for the rate limiter. `left` is the time left for its job.

        Raises ProviderUnavailable while the breaker is open, ProviderRateLimited if the wait is too long.
        """
        max_wait = MAX_RATE_LIMIT_WAIT_SECONDS if left is None else left
        try:
            if look and self._breaker.refuses():
                raise ProviderUnavailable("the model provider is down: calls are paused for some seconds; try later")
            wait = 0.0 if self._limiter is None else self._limiter.reserve(max_wait)
        except (RedisError, OSError):
            self._skip_guards()
            return 0.0
        if wait is None:
            raise ProviderRateLimited(
                "too many questions wait for the model provider: try later, or raise PROVIDER_REQUESTS_PER_MINUTE"
            )
        return wait

    def _report(self, error: Exception | None) -> Callable[[], None] | None:
        """Return the function that tells the breaker the outcome of a call; None if the breaker need not know."""
        failed = isinstance(error, CallFailure) and error.outage
        if time.monotonic() < self._unguarded_until or not (failed or self._breaker.awaits_success):
            return None
        return partial(self._record, failed=failed)

    def _record(self, *, failed: bool) -> None:
        try:
            if failed:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
        except (RedisError, OSError):
            self._skip_guards()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        # Not the loop's own threads: a call would wait behind searches there, and searches behind a Valkey that hangs.
        return ThreadPoolExecutor(VALKEY_THREADS, thread_name_prefix="provider-guards")

    def _skip_guards(self) -> None:
        self._unguarded_until = time.monotonic() + UNGUARDED_SECONDS


def _options(deadline: Deadline) -> dict[str, Any]:
    """Return how calls are retried."""
    return {
        "retry": retry_if_exception(lambda error: _is_transient(error) and _can_retry(error, deadline)),
        "stop": stop_after_attempt(MAX_CALLS),
        "wait": _wait_seconds,
        "reraise": True,
    }


async def _bounded(request: Callable[[], Awaitable[T]], deadline: Deadline, seconds: float | None) -> T:
    """Return what `request` returns. Raises CallTimeout after `seconds`, and when the time of the job is up."""
    left = deadline.remaining()
    try:
        limits = [seconds, None if left is None else left + TIMER_SECONDS]
        async with asyncio.timeout(min((limit for limit in limits if limit is not None), default=None)):
            return await request()
    except TimeoutError:
        raise CallTimeout from None


def _take_call(deadline: Deadline) -> None:
    if not deadline.take_call():
        raise ProviderUnavailable(f"the model provider was asked {MAX_CALLS} times without success; try later")


def _is_transient(error: BaseException) -> bool:
    """Return True if the same call may succeed later."""
    return isinstance(error, CallFailure) and error.transient


def _can_retry(error: BaseException, deadline: Deadline) -> bool:
    """Return True if a call is left, and the wait that the provider asks for is short and ends before the deadline."""
    left = deadline.remaining()
    requested = _requested_wait(error)
    if requested is not None and (requested > LONGEST_WAIT_SECONDS or (left is not None and requested >= left)):
        return False
    return deadline.calls_left != 0


def _wait_seconds(state: RetryCallState) -> float:
    """Return the seconds before the next attempt, jittered: the provider's Retry-After, or a wait that doubles."""
    error = state.outcome.exception() if state.outcome else None
    doubled: float = FIRST_WAIT_SECONDS * 2 ** (state.attempt_number - 1)
    backoff = min(LONGEST_WAIT_SECONDS, doubled) * random.uniform(0.5, 1)  # noqa: S311
    requested = _requested_wait(error)
    # Jittered too, so that callers with the same Retry-After do not all return at the same time.
    wait = backoff if requested is None else requested + backoff * 0.5
    log.info("the model provider failed (%s); trying again in %.1f s", error, wait)
    return wait


def _requested_wait(error: BaseException | None) -> float | None:
    return error.retry_after if isinstance(error, CallFailure) else None
