"""Questions about named uploads, indexed or not yet indexed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from client.rq_client import JobQueue
from settings import Settings
from tests.api.test_uploads import ask, post, state, uploaded
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, RQ, running, wait_until
from tests.support.workers import work

QUESTION = "When was the lighthouse built?"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another document, with another answer to the question."""
    return write_pdf(tmp_path / "other.pdf", ["The lighthouse of Gull Rock was built in 1911."])


def test_only_the_named_uploads_are_searched(api: httpx.Client, settings: Settings, pdf: Path, other: Path) -> None:
    first, second = uploaded(api, pdf), uploaded(api, other)
    work(settings)

    def named(**chosen: Any) -> set[str]:
        return {source["upload_id"] for source in ask(api, settings, QUESTION, **chosen)["sources"]}

    assert named() == {first, second}
    assert named(upload_id=first) == {first}
    assert named(upload_id=[second]) == {second}
    assert named(upload_id=[first, second, first]) == {first, second}
    by_parameter = api.post("/chat", params={"query": QUESTION, "upload_id": second})
    work(settings)
    sources = api.get(f"/result/{by_parameter.json()['job_id']}").json()["sources"]
    assert {source["upload_id"] for source in sources} == {second}


def test_an_unknown_upload_is_404_and_an_unready_one_409(api: httpx.Client, settings: Settings, tmp_path: Path) -> None:
    def status(upload_id: Any, **more: Any) -> tuple[int, str]:
        response = api.post("/chat", json={"query": QUESTION, "upload_id": upload_id} | more)
        return response.status_code, response.json().get("detail", "")

    blank = uploaded(api, write_pdf(tmp_path / "blank.pdf", [""]))
    assert status("0190a8c4-1d2e-7c3a-9f00-0123456789ab")[0] == 404
    assert status([blank, "nonsense"], after_upload=True)[0] == 404
    assert status([])[0] == 422
    code, detail = status(blank)
    assert code == 409
    assert "is queued" in detail
    work(settings)
    code, detail = status(blank, after_upload=True)
    assert code == 409
    assert "no text was found" in detail
    api.delete(f"/uploads/{blank}")
    assert status(blank)[0] == 404


def test_a_question_waits_for_its_uploads(
    api: httpx.Client, settings: Settings, valkey: Redis, pdf: Path, other: Path
) -> None:
    ids = [one["upload_id"] for one in post(api, pdf, other).json()["uploads"]]
    asked = api.post("/chat", json={"query": QUESTION, "upload_id": ids, "after_upload": True})
    assert asked.status_code == 202
    job_id = asked.json()["job_id"]
    assert api.get(f"/job-status/{job_id}").json()["status"] == "queued"
    assert valkey.llen("rq:queue:rag_queries") == 0
    work(settings, jobs=1)
    assert valkey.llen("rq:queue:rag_queries") == 0, "one of two is indexed"
    work(settings)
    result = api.get(f"/result/{job_id}").json()
    assert {source["upload_id"] for source in result["sources"]} == set(ids)
    assert valkey.zcard("rq:deferred:rag_queries") == 0


@pytest.mark.parametrize(
    "command",
    [[RQ, "worker", "rag_documents", "rag_queries"], [PYTHON, "main.py", "worker"]],
    ids=["rq worker", "main.py worker"],
)
def test_every_kind_of_worker_runs_waiting_questions(
    command: list[str], api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path
) -> None:
    upload_id = uploaded(api, pdf)
    asked = api.post("/chat", json={"query": QUESTION, "upload_id": upload_id, "after_upload": True}).json()["job_id"]
    use = {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": settings.queue_url, "RQ_REDIS_URL": settings.queue_url}
    with running(command, tmp_path / "worker.log", **use) as worker:
        wait_until(lambda: api.get(f"/result/{asked}").status_code == 200)
        assert "1887" in api.get(f"/result/{asked}").json()["result"], worker.output


def test_a_question_that_waited_for_a_file_without_text_fails_with_a_sentence(
    api: httpx.Client, settings: Settings, tmp_path: Path
) -> None:
    blank = uploaded(api, write_pdf(tmp_path / "blank.pdf", [""]))
    asked = api.post("/chat", json={"query": QUESTION, "upload_id": blank, "after_upload": True}).json()["job_id"]
    work(settings)
    result = api.get(f"/result/{asked}").json()
    assert result["status"] == "failed"
    assert "blank.pdf could not be indexed: no text was found" in result["error"]


def test_a_question_whose_upload_is_deleted_meanwhile_fails_with_a_sentence(
    api: httpx.Client, settings: Settings, pdf: Path
) -> None:
    upload_id = uploaded(api, pdf)
    asked = api.post("/chat", json={"query": QUESTION, "upload_id": upload_id, "after_upload": True}).json()["job_id"]
    api.delete(f"/uploads/{upload_id}")
    work(settings)
    assert "was deleted" in api.get(f"/result/{asked}").json()["error"]


def test_a_question_does_not_wait_for_ended_or_missing_jobs(
    api: httpx.Client, settings: Settings, valkey: Redis, pdf: Path
) -> None:
    """The indexing job ends between the check of its upload and the submission of the question."""
    body = post(api, pdf).json()
    work(settings)
    payload = {"query": QUESTION, "upload_ids": [body["upload_id"]]}

    async def submit(*after: str) -> str:
        queue = JobQueue(settings.queue_url, job_timeout_seconds=60, result_ttl_seconds=600)
        try:
            return (await queue.submit("chat", payload, after=after)).job_id
        finally:
            await queue.close()

    jobs = [asyncio.run(submit(body["job_id"])), asyncio.run(submit("0190a8c4-1d2e-7c3a-9f00-0123456789ab"))]
    assert valkey.llen("rq:queue:rag_queries") == 2
    work(settings)
    for job in jobs:
        assert "1887" in api.get(f"/result/{job}").json()["result"]


def test_a_question_left_waiting_by_a_worker_that_died_is_released(
    api: httpx.Client, settings: Settings, valkey: Redis, pdf: Path
) -> None:
    body = post(api, pdf).json()
    asked = api.post("/chat", json={"query": QUESTION, "upload_id": body["upload_id"], "after_upload": True}).json()
    # The state after a worker has died between the end of a job and the release of its dependents.
    dependents = valkey.smembers(f"rq:job:{body['job_id']}:dependents")
    valkey.delete(f"rq:job:{body['job_id']}:dependents")
    assert len(dependents) == 1
    work(settings)
    assert state(api, body["upload_id"])["status"] == "ready"
    assert valkey.zcard("rq:deferred:rag_queries") == 1

    async def release() -> int:
        queue = JobQueue(settings.queue_url, job_timeout_seconds=60, result_ttl_seconds=600)
        try:
            return await queue.release_stranded(waiting_seconds=0) + await queue.release_stranded(waiting_seconds=0)
        finally:
            await queue.close()

    assert asyncio.run(release()) == 1
    work(settings)
    assert "1887" in api.get(f"/result/{asked['job_id']}").json()["result"]
