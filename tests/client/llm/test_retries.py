"""Calls of the model provider are retried in one place, spaced out over all workers, and given up in time."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from client.llm import deadline as deadlines
from client.llm import retries
from client.llm.deadline import Deadline, apply_deadline
from client.valkey import circuit_breaker
from client.valkey.circuit_breaker import CircuitBreaker
from client.valkey.rate_limiter import RateLimiter
from errors import (
    JobCancelled,
    JobStopped,
    JobTimedOut,
    ModelNotFound,
    ProviderError,
    ProviderKeyRejected,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.models import BlockingModels, CoroutineModels, Models
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.processes import wait_until
from tests.support.sockets import serving_sockets

MakeModels = Callable[[Settings], Models]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def online(make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub) -> Settings:
    return make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)


@pytest.fixture(params=[BlockingModels, CoroutineModels])
def make_models(request: pytest.FixtureRequest) -> MakeModels:
    made: MakeModels = request.param
    return made


@pytest.fixture
def models(make_models: MakeModels, online: Settings) -> Models:
    return make_models(online)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_transient_failure_is_retried(status: int, models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.fail_next = [status, status]
    stub.behaviour.answer = "yes"
    assert models.complete("system", "user").text == "yes"
    assert len(stub.behaviour.calls) == 3


@pytest.mark.parametrize(("status", "error"), [(400, ProviderError), (401, ProviderKeyRejected), (404, ModelNotFound)])
def test_a_final_failure_is_not_retried(status: int, error: type[Exception], models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.always_fail = status
    with pytest.raises(error):
        models.complete("system", "user")
    assert len(stub.behaviour.calls) == 1


def test_a_call_is_made_four_times_at_most(models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.always_fail = 503
    with pytest.raises(ProviderUnavailable):
        models.complete("system", "user")
    assert len(stub.behaviour.calls) == retries.MAX_CALLS


def test_a_call_waits_while_the_job_may_be_another_workers(models: Models, stub: OpenAIStub) -> None:
    """As after a stop of this worker: the other worker's answer ends this job before a second call is made."""
    looks = itertools.count()

    def in_doubt() -> bool:
        if next(looks) == 5:
            deadline.stop(cancelled=True)
        return True

    deadline = Deadline(in_doubt=in_doubt)
    for ask in (lambda: models.complete("system", "user"), lambda: models.embed_query("why?")):
        with apply_deadline(deadline), pytest.raises(JobCancelled):
            ask()
    assert not stub.behaviour.calls


def test_a_call_is_made_once_the_doubt_is_over_or_lasts(
    models: Models, stub: OpenAIStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "DOUBT_SECONDS", 0.1)
    doubts = iter([True, True, False])
    for in_doubt in (lambda: next(doubts), lambda: True):
        with apply_deadline(Deadline(in_doubt=in_doubt)):
            models.complete("system", "user")
    assert len(stub.behaviour.calls) == 2
    assert next(doubts, None) is None


def test_a_question_makes_four_calls_at_most_embedding_and_answer_together(models: Models, stub: OpenAIStub) -> None:
    deadline = Deadline()
    deadline.limit_calls(4)
    stub.behaviour.fail_next = [500, 500]
    with apply_deadline(deadline):
        models.embed_query("why?")
        stub.behaviour.always_fail = 500
        with pytest.raises(ProviderUnavailable):
            models.complete("system", "user")
    assert len(stub.behaviour.calls) == 4


def test_retry_after_is_obeyed(models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.fail_next = [429]
    stub.behaviour.retry_after_seconds = 0.6
    started = time.monotonic()
    models.complete("system", "user")
    assert time.monotonic() - started >= 0.6


def test_a_requested_wait_beyond_the_deadline_fails_at_once(models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.fail_next = [429]
    stub.behaviour.retry_after_seconds = 600
    with apply_deadline(Deadline(60)), pytest.raises(ProviderRateLimited):  # and not JobTimedOut, after 60 s
        models.complete("system", "user")
    assert len(stub.behaviour.calls) == 1


def test_the_rate_limiter_spaces_the_calls_of_all_workers(valkey: Redis, valkey_url: str) -> None:
    started = time.monotonic()
    with Redis.from_url(valkey_url) as other:
        limiters = [RateLimiter(valkey, 120), RateLimiter(other, 120)]
        waits = [limiters[n % 2].reserve(60) for n in range(12)]
        numbers = [wait for wait in waits if wait is not None]
        assert numbers[:2] == [0, 0]
        assert limiters[0].reserve(1) is None
        last = limiters[0].reserve(60)
        assert last is not None
        # Calls go out 0.5 s apart. A wait counts from its reservation, so a slow machine makes the differences smaller.
        assert all(0 < later - one < 0.55 for one, later in itertools.pairwise([*numbers[1:], last]))
        assert last + (time.monotonic() - started) > 11 * 0.5 - 0.05


def test_calls_of_the_model_keep_the_rate_limit(
    make_models: MakeModels, make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub
) -> None:
    limited = make_settings(
        valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY, provider_requests_per_minute=600
    )
    models = [make_models(limited), make_models(limited)]
    started = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: models[n % 2].complete("system", "user"), range(20)))
    assert time.monotonic() - started >= 0.9


def test_the_breaker_opens_for_all_and_closes_by_itself(valkey: Redis) -> None:
    one, other = CircuitBreaker(valkey, pause_seconds=1.2), CircuitBreaker(valkey, pause_seconds=1.2)
    for _ in range(circuit_breaker.FAILURES):
        assert not one.refuses()
        one.failed()
    assert one.refuses()
    assert other.refuses()
    wait_until(lambda: not other.refuses())  # one trial call is let through
    assert one.refuses()
    other.failed()
    assert one.refuses()
    wait_until(lambda: not one.refuses())
    one.succeeded()
    time.sleep(circuit_breaker.FRESH_SECONDS)
    assert not other.refuses()
    other.failed()
    assert not one.refuses()


def test_while_the_breaker_is_open_calls_fail_at_once(models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.always_fail = 500
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            models.complete("system", "user")
    calls = len(stub.behaviour.calls)
    assert calls == circuit_breaker.FAILURES
    with pytest.raises(ProviderUnavailable, match="paused"):
        models.complete("system", "user")
    assert len(stub.behaviour.calls) == calls


def test_refusals_do_not_open_the_breaker(models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.always_fail = 401
    for _ in range(circuit_breaker.FAILURES + 2):
        with pytest.raises(ProviderKeyRejected):
            models.complete("system", "user")
    stub.behaviour.always_fail = None
    stub.behaviour.answer = "yes"
    assert models.complete("system", "user").text == "yes"


def test_without_valkey_calls_skip_breaker_and_limiter(
    make_models: MakeModels, make_settings: MakeSettings, stub: OpenAIStub
) -> None:
    stub.behaviour.answer = "yes"
    models = make_models(make_settings(valkey_url="redis://127.0.0.1:1", openai_base_url=stub.url, openai_api_key=KEY))
    assert models.complete("system", "user").text == "yes"


def test_a_trickling_answer_ends_with_the_job(
    make_models: MakeModels, trickle: str, valkey_url: str, make_settings: MakeSettings
) -> None:
    models = make_models(make_settings(valkey_url=valkey_url, openai_base_url=trickle))
    with apply_deadline(Deadline(1.0)), pytest.raises(JobTimedOut):  # and not ProviderTimeout, after a minute
        models.complete("system", "user")


def test_a_trickling_answer_ends_with_the_time_of_a_call(
    make_models: MakeModels, trickle: str, valkey_url: str, make_settings: MakeSettings
) -> None:
    models = make_models(make_settings(valkey_url=valkey_url, openai_base_url=trickle, first_token_timeout_seconds=1))
    with pytest.raises(ProviderTimeout):
        models.complete("system", "user")


def test_stopping_a_job_closes_its_call(make_models: MakeModels, valkey_url: str, make_settings: MakeSettings) -> None:
    closed, deadline = threading.Event(), Deadline()

    def hold(connection: socket.socket) -> None:
        while connection.recv(65536):
            deadline.stop()
        closed.set()

    with serving_sockets(hold) as url:
        models = make_models(make_settings(valkey_url=valkey_url, openai_base_url=url))
        with apply_deadline(deadline), pytest.raises(JobStopped):
            models.complete("system", "user")
        assert closed.wait(20)


@pytest.fixture
def trickle() -> Iterator[str]:
    """A server that sends one byte of its answer every 50 ms, without end."""

    def send(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    with serving_sockets(send) as url:
        yield url
