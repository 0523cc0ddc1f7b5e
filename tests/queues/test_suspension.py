"""A worker that was stopped for a while takes no answer that it missed for a failure of the model provider."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import httpx
from redis import Redis

from queues.ragworker.suspension import Suspension
from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.queues.test_chat import index, variables
from tests.queues.test_conversations import ask, result
from tests.support.jobs import READY_TO_STOP, STOP_SECONDS, ended, enqueue
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import RQ, running, wait_until


def test_a_time_limit_that_passed_while_the_worker_was_stopped_fails_no_job(
    settings: Settings, valkey: Redis, tmp_path: Path
) -> None:
    command = [RQ, "worker", "-w", "tests.support.jobs.PatientWorker", "--url", settings.queue_url, "rag_queries"]
    with running(command, tmp_path / "worker.log", **variables(settings)) as worker:
        job = enqueue(valkey, "time_out_once_stopped")
        wait_until(lambda: READY_TO_STOP in worker.output, seconds=60, what=lambda: worker.output)
        os.kill(worker.process.pid, signal.SIGSTOP)
        time.sleep(STOP_SECONDS + 1)
        os.kill(worker.process.pid, signal.SIGCONT)
        assert ended(job, seconds=60) == ["finished"]
    assert job.return_value() == 2
    assert "handed back" in worker.output


def test_a_worker_that_wakes_asks_no_model_for_a_job_that_another_has_answered(
    make_settings: MakeSettings, valkey_url: str, valkey: Redis, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    provider = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
    settings = make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)
    index(pdf, settings, **provider)
    embedding, go_on = threading.Event(), threading.Event()

    def wait(_texts: list[str]) -> None:
        embedding.set()
        go_on.wait(60)

    stub.behaviour.before_vectors = wait
    command = [RQ, "worker", "-w", "queues.RagWorker", "--url", settings.queue_url, "rag_queries"]
    use = variables(settings, **provider)
    with (
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, timeout=40) as service,
        running(command, tmp_path / "stopped.log", **use) as stopped,
    ):
        job_id = ask(service, "Who built the lighthouse?")
        assert embedding.wait(60), stopped.output
        with running(command, tmp_path / "other.log", **use) as other:
            wait_until(lambda: "working on" in other.output, seconds=60, what=lambda: other.output)
            os.kill(stopped.process.pid, signal.SIGSTOP)
            stub.behaviour.before_vectors = len
            go_on.set()
            assert result(service, job_id)["answered"]
            valkey.client_pause(1_500, all=False)  # which delays the first heartbeat by so many milliseconds
            os.kill(stopped.process.pid, signal.SIGCONT)
            wait_until(lambda: "taken over by another worker" in stopped.output, what=lambda: stopped.output)
    assert len(stub.behaviour.chats) == 1


def test_a_stop_is_seen_before_and_after_the_next_tick() -> None:
    now = [0.0]
    suspension = Suspension(5.0, clock=lambda: now[0])
    for now[0] in (1.0, 3.0, 7.0):
        suspension.tick()
    assert not suspension.happened_since(0.0)
    now[0] = 20.0
    assert suspension.happened_since(6.0)
    assert not suspension.happened_since(18.0)
    suspension.tick()
    now[0] = 21.0
    assert suspension.happened_since(6.0)
    assert not suspension.happened_since(20.5)


def test_a_stop_leaves_the_jobs_unconfirmed_until_valkey_was_asked_after_it() -> None:
    now = [0.0]
    suspension = Suspension(5.0, clock=lambda: now[0])
    now[0] = 1.0
    suspension.tick()
    asked_at = now[0]
    now[0] = 20.0
    assert suspension.unconfirmed
    suspension.confirm(asked_at)  # the reply to a question from before the stop
    suspension.tick()
    assert suspension.unconfirmed
    now[0] = 20.1
    suspension.confirm(now[0])
    assert not suspension.unconfirmed
