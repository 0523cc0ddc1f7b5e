"""A model's answer outlives the worker that asked for it: the next attempt does not ask again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from client.valkey.embedded import EmbeddedValkey
from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.queues.test_chat import index, variables
from tests.queues.test_conversations import ask, result
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import PYTHON, RQ, Running, running, wait_until

ANSWER = "The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale [1]."
WORKERS = {
    "RagWorker": ["-w", "queues.RagWorker"],
    "rq worker": [],
    "SimpleWorker": ["-w", "rq.worker.SimpleWorker"],
}


@pytest.fixture
def model_settings(make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, pdf: Path) -> Settings:
    settings = make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)
    index(pdf, settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    stub.behaviour.answer = ANSWER
    return settings


@pytest.fixture
def service(model_settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(model_settings)) as url, httpx.Client(base_url=url, timeout=40) as client:
        yield client


def has_died(worker: Running, died: Path) -> bool:
    """Return True once the answer killed a process: the worker, or the fork that ran its job."""
    return died.exists() or worker.process.poll() is not None


@pytest.mark.parametrize("kind", WORKERS)
def test_what_a_model_said_before_its_worker_died_is_not_asked_again(
    kind: str,
    service: httpx.Client,
    model_settings: Settings,
    stub: OpenAIStub,
    valkey: Redis,
    tmp_path: Path,
) -> None:
    died, dies = tmp_path / "died", "parent" if kind == "rq worker" else "self"
    command = [RQ, "worker", "-c", "tests.support.dying_worker", *WORKERS[kind], "--url", model_settings.queue_url]
    job_id = ask(service, "Who built the lighthouse?", conversation_id="c")
    provider = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
    use = variables(model_settings, **provider, DIED=str(died), JOB_KEY=f"rq:job:{job_id}", DIES=dies)
    with running([*command, "rag_queries"], tmp_path / "dying.log", **use) as worker:
        wait_until(lambda: has_died(worker, died), what=lambda: worker.output)
        worker.process.kill()
        worker.process.wait()
    assert valkey.hexists(f"rq:job:{job_id}", "draft")
    with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use):
        answer = result(service, job_id)
    assert answer["result"] == ANSWER
    assert answer["sources"][0]["quote"]
    assert answer["usage"]["total_tokens"] > 0
    assert len(stub.behaviour.chats) == 1
    events = list(events_of(service, job_id))
    tokens = [event["data"]["text"] for event in events[events_after_start(events) :] if event["type"] == "token"]
    assert "".join(tokens) == ANSWER
    assert [event["type"] for event in events[-2:]] == ["sources", "finished"]
    assert not valkey.hexists(f"rq:job:{job_id}", "draft")


def events_of(service: httpx.Client, job_id: str) -> Iterator[dict[str, Any]]:
    for block in service.get(f"/jobs/{job_id}/events").text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            yield {"type": fields["event"], "data": json.loads(fields["data"])}


def events_after_start(events: list[dict[str, Any]]) -> int:
    """Return the place of the last `started`, from which on tokens count."""
    return max(place for place, event in enumerate(events) if event["type"] == "started")


@pytest.mark.parametrize("draft", [b"{", b"\xff", b"{}", b'{"question": "x"}'])
def test_a_draft_that_cannot_be_read_is_no_draft(
    draft: bytes, service: httpx.Client, model_settings: Settings, stub: OpenAIStub, valkey: Redis, tmp_path: Path
) -> None:
    job_id = ask(service, "Who built the lighthouse?")
    valkey.hset(f"rq:job:{job_id}", "draft", draft)
    use = variables(model_settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use):
        assert result(service, job_id)["result"] == ANSWER
    assert len(stub.behaviour.chats) == 1


@pytest.fixture
def valkey_to_kill(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def test_a_draft_outlives_a_worker_that_dies_while_valkey_is_away(
    valkey_to_kill: EmbeddedValkey, make_settings: MakeSettings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    server = valkey_to_kill
    settings = make_settings(valkey_url=server.url, openai_base_url=stub.url, openai_api_key=KEY)
    use = variables(settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    index(pdf, settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    drafts = settings.data_dir / "drafts"

    def answer_once_valkey_is_gone(_messages: object) -> str:
        assert server._process is not None
        server._process.kill()
        server._process.wait()
        return ANSWER

    stub.behaviour.answer = answer_once_valkey_is_gone
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=40) as client:
        job_id = ask(client, "Who built the lighthouse?")
        with running([PYTHON, "main.py", "worker"], tmp_path / "dying.log", **use) as worker:
            wait_until((drafts / job_id).exists, what=lambda: worker.output)
            worker.kill()
        assert drafts.stat().st_mode & 0o777 == 0o700
        assert (drafts / job_id).stat().st_mode & 0o777 == 0o600
        server.ensure_running()
        with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use):
            assert result(client, job_id)["result"] == ANSWER
            assert len(stub.behaviour.chats) == 1
            wait_until(lambda: not any(drafts.iterdir()))
