"""Recent jobs, batches, and the expected wait of a job."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from redis import Redis
from rq.utils import as_text
from uuid_utils.compat import uuid7

from client.rq import listing as job_lists
from client.rq_client import JobQueue
from errors import QueueUnavailable
from schemas import JobView
from tests.api.test_api import ask, assert_problem
from tests.api.test_watching import finish, start

LIST = "rag:jobs:local"


def listed(api: httpx.Client, **parameters: object) -> list[str]:
    found = api.get("/jobs", params=parameters).json()  # type: ignore[arg-type]
    return [job["job_id"] for job in found["jobs"]]


def test_recent_jobs_come_newest_first_and_in_pages(api: httpx.Client) -> None:
    job_ids = [ask(api) for _ in range(5)]
    assert listed(api) == job_ids[::-1]
    first = api.get("/jobs", params={"limit": 2}).json()
    assert [job["job_id"] for job in first["jobs"]] == job_ids[:-3:-1]
    assert listed(api, limit=2, before=first["next"]) == job_ids[2:0:-1]
    last = api.get("/jobs", params={"limit": 2, "before": job_ids[1]}).json()
    assert [job["job_id"] for job in last["jobs"]] == [job_ids[0]]
    assert last["next"] is None
    assert last["jobs"][0]["kind"] == "chat"
    assert last["jobs"][0]["created_at"].endswith("Z")


def test_recent_jobs_can_be_filtered_by_status_and_kind(api: httpx.Client, valkey: Redis) -> None:
    job_ids = [ask(api) for _ in range(4)]
    finish(valkey, job_ids[1], start(valkey, job_ids[1]))
    api.delete(f"/jobs/{job_ids[2]}")
    assert listed(api, status="finished") == [job_ids[1]]
    assert listed(api, status="cancelled") == [job_ids[2]]
    assert listed(api, status="queued", limit=1) == [job_ids[3]]
    assert listed(api, kind="document") == []
    assert_problem(api.get("/jobs", params={"status": "lost"}), 422)


def test_recent_jobs_show_their_question_or_document(api: httpx.Client, valkey: Redis) -> None:
    upload = api.post("/uploads", files={"file": ("lamp.txt", b"The lamp weighs 142 grams.")}).json()
    long = api.post("/chat", json={"query": "x" * 4_000}).json()["job_id"]
    short = api.post("/chat", json={"query": "How heavy is the lamp?"}).json()["job_id"]
    shown = {job["job_id"]: (job["query"], job["name"]) for job in api.get("/jobs").json()["jobs"]}
    assert shown == {
        short: ("How heavy is the lamp?", None),
        long: ("x" * 200, None),
        upload["job_id"]: (None, "lamp.txt"),
    }
    valkey.hset(f"rq:job:{short}", "data", b"no pickle")  # as another program may write it
    valkey.hdel(f"rq:job:{long}", "data")
    assert {job["query"] for job in api.get("/jobs").json()["jobs"]} == {None}


def test_jobs_that_are_no_longer_kept_are_not_listed(api: httpx.Client, valkey: Redis) -> None:
    job_ids = [ask(api) for _ in range(3)]
    valkey.delete(f"rq:job:{job_ids[1]}")
    assert listed(api) == [job_ids[2], job_ids[0]]


def test_a_very_long_list_of_jobs_is_searched_in_parts(api: httpx.Client, valkey: Redis) -> None:
    oldest = ask(api)
    made = valkey.zscore(LIST, oldest)
    assert made is not None
    gone = {str(uuid7()): made + 1 + n / 1e6 for n in range(200_000)}
    for at in range(0, len(gone), 50_000):
        valkey.zadd(LIST, dict(list(gone.items())[at : at + 50_000]))
    newest = ask(api)
    valkey.zadd(LIST, {newest: made + 2})
    page = api.get("/jobs", params={"status": "queued"}).json()
    assert [job["job_id"] for job in page["jobs"]] == [newest]
    # Jobs that are no longer kept were removed from the list, except the `before` of the next page.
    assert valkey.zcard(LIST) == 200_002 - job_lists.MAX_READ + 2
    pages, found = 1, [newest]
    while page["next"] is not None:
        page = api.get("/jobs", params={"status": "queued", "before": page["next"]}).json()
        found += [job["job_id"] for job in page["jobs"]]
        pages += 1
    assert found == [newest, oldest]
    assert pages == 41
    assert valkey.zcard(LIST) < 300


def test_a_page_follows_a_job_that_is_no_longer_kept(api: httpx.Client, valkey: Redis) -> None:
    job_ids = [ask(api) for _ in range(4)]
    first = api.get("/jobs", params={"limit": 2}).json()
    assert first["next"] == job_ids[2]
    valkey.delete(f"rq:job:{job_ids[2]}")
    valkey.zrem(LIST, job_ids[2])
    assert listed(api, before=first["next"]) == [job_ids[1], job_ids[0]]
    assert listed(api, before="nonsense") == []


def test_a_batch_keeps_the_order_of_its_questions(api: httpx.Client, valkey: Redis) -> None:
    questions = [{"query": f"Question {n}?", "priority": "high" if n % 3 == 0 else "normal"} for n in range(50)]
    accepted = api.post("/chat/batch", json={"questions": questions})
    assert accepted.status_code == 202
    batch_id, job_ids = accepted.json()["batch_id"], accepted.json()["job_ids"]
    assert len(set(job_ids)) == 50
    waiting = [as_text(job_id) for job_id in valkey.lrange("rq:queue:rag_queries", 0, -1)]
    assert set(waiting[:17]) == set(job_ids[::3])
    assert waiting[17:] == [job_id for place, job_id in enumerate(job_ids) if place % 3]
    finish(valkey, job_ids[7], start(valkey, job_ids[7]))
    valkey.delete(f"rq:job:{job_ids[8]}")
    assert api.get(f"/batches/{batch_id}").json() == {
        "batch_id": batch_id,
        "total": 50,
        "queued": 48,
        "started": 0,
        "finished": 1,
        "failed": 0,
        "cancelled": 0,
        "expired": 1,
    }
    lines = api.get(f"/batches/{batch_id}/results")
    assert lines.headers["content-type"].startswith("application/jsonl")
    results = [json.loads(line) for line in lines.text.splitlines()]
    assert [result["job_id"] for result in results] == job_ids
    assert (results[7]["status"], results[8]["status"], results[9]["status"]) == ("completed", "expired", "queued")


def test_a_batch_has_at_most_a_thousand_questions(api: httpx.Client, valkey: Redis) -> None:
    questions = [{"query": "ü" * 200}] * 1000
    assert len(api.post("/chat/batch", json={"questions": questions}).json()["job_ids"]) == 1000
    assert valkey.llen("rq:queue:rag_queries") == 1000
    assert_problem(api.post("/chat/batch", json={"questions": [*questions, {"query": "a"}]}), 422)
    assert_problem(api.post("/chat/batch", json={"questions": []}), 422)
    problem = assert_problem(api.post("/chat/batch", json={"questions": [{"query": "a"}, {"query": ""}]}), 422)
    assert problem["errors"][0]["field"] == "questions.1.query"
    assert_problem(api.get("/batches/nonsense"), 404)
    assert_problem(api.get("/batches/nonsense/results"), 404)


@pytest.mark.parametrize(
    ("wrong", "field"), [({"model": "none-such"}, "model"), ({"webhook_url": "http://example.com"}, "webhook_url")]
)
def test_a_batch_with_an_invalid_question_leaves_nothing(
    wrong: dict[str, str], field: str, api: httpx.Client, valkey: Redis
) -> None:
    good = [{"query": "one", "priority": priority} for priority in ("high", "normal", "low")]
    headers = {"Idempotency-Key": "one"}
    refused = api.post("/chat/batch", json={"questions": [*good, {"query": "two"} | wrong]}, headers=headers)
    assert assert_problem(refused, 422)["errors"][0]["field"] == f"questions.3.{field}"
    assert listed(api) == []
    assert valkey.llen("rq:queue:rag_queries") == 0
    assert api.post("/chat/batch", json={"questions": good}, headers=headers).status_code == 202


def test_the_expected_wait_follows_from_the_rate(api: httpx.Client, valkey: Redis) -> None:
    first = ask(api)
    assert "expected_wait_seconds" not in api.get(f"/job-status/{first}").json()
    job_ids = [ask(api) for _ in range(9)]
    finish(valkey, first, start(valkey, first))
    valkey.zadd("rq:finished:rag_queries", {first: valkey.time()[0] + 86_400})
    state = api.get(f"/job-status/{job_ids[-1]}").json()
    assert state["position"] == 9
    assert state["expected_wait_seconds"] == 9 * 60  # one job ended in the last minute


def test_results_of_a_batch_that_cannot_be_read_are_not_called_expired(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = api.post("/chat/batch", json={"questions": [{"query": "Why?"}] * 3}).json()
    fetch, asked = JobQueue.fetch, []

    async def fail(queue: JobQueue, job_id: str, **options: Any) -> JobView:
        asked.append(job_id)
        if len(asked) > 1:
            raise QueueUnavailable("the queue is away")
        return await fetch(queue, job_id, **options)

    monkeypatch.setattr(JobQueue, "fetch", fail)
    lines = [json.loads(line) for line in api.get(f"/batches/{batch['batch_id']}/results").text.splitlines()]
    assert [line["job_id"] for line in lines] == batch["job_ids"]
    assert [line["status"] for line in lines] == ["queued", "unavailable", "unavailable"]
    assert lines[2]["error"] == "the queue is away"
    assert len(asked) == 2  # a queue that is away is not asked for every job
