"""POST /chat with Idempotency-Key: the same request gives the same job, repeated often or at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from redis import Redis

from client.rq.idempotency import TTL_SECONDS
from client.sql.database import Database
from client.sql.uploads import UploadRepository
from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.queues.test_chat import index
from tests.support.openai_stub import serving
from tests.support.processes import wait_until

QUEUE = "rq:queue:rag_queries"


def ask(api: httpx.Client, key: str, **body: object) -> httpx.Response:
    return api.post("/chat", json={"query": "why?"} | body, headers={"Idempotency-Key": key})


def test_the_same_key_and_body_give_the_same_job(api: httpx.Client, valkey: Redis) -> None:
    answers = [ask(api, "one"), ask(api, "one"), api.post("/chat?query=why%3F", headers={"Idempotency-Key": "one"})]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert answers[1].headers["Location"] == answers[0].headers["Location"]
    assert valkey.llen(QUEUE) == 1
    (key,) = valkey.keys("rag:idempotency:*")
    assert TTL_SECONDS - 60 < valkey.ttl(key) <= TTL_SECONDS


def test_a_repeated_request_changes_nothing(api: httpx.Client, valkey: Redis) -> None:
    url = "https://example.com/hook"
    job_id = ask(api, "one", webhook_url=url).json()["job_id"]
    later = ask(api, "two").json()["job_id"]
    api.delete(f"/jobs/{job_id}")
    valkey.delete(f"rag:webhook:intent:{job_id}")  # as after the relay has made its deliveries
    valkey.zrem("rag:webhook:pending", job_id)
    kept = valkey.ttl(f"rag:events:{job_id}")
    assert ask(api, "one", webhook_url=url).json()["job_id"] == job_id
    assert [job["job_id"] for job in api.get("/jobs").json()["jobs"]] == [later, job_id]
    assert not valkey.exists(f"rag:webhook:intent:{job_id}")
    assert valkey.ttl(f"rag:events:{job_id}") <= kept
    assert valkey.xlen(f"rag:events:{job_id}") == 1


def test_other_keys_give_other_jobs(api: httpx.Client, valkey: Redis) -> None:
    assert len({ask(api, key).json()["job_id"] for key in ("one", "two", "three")}) == 3
    assert valkey.llen(QUEUE) == 3


@pytest.mark.parametrize(
    "other",
    [{"query": "how?"}, {"k": 3}, {"priority": "high"}, {"after_upload": True}, {"metadata": {"a": "b"}}],
    ids=str,
)
def test_the_same_key_with_another_body_is_refused(other: dict[str, object], api: httpx.Client, valkey: Redis) -> None:
    ask(api, "one")
    refused = ask(api, "one", **other)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert "Idempotency-Key" in refused.json()["detail"]
    assert valkey.llen(QUEUE) == 1


def test_simultaneous_requests_with_one_key_give_one_job(api: httpx.Client, valkey: Redis) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(api, "one"), range(64)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert valkey.llen(QUEUE) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "tab\there"])
def test_an_invalid_idempotency_key_is_refused(key: str, api: httpx.Client, valkey: Redis) -> None:
    assert ask(api, key).status_code == 422
    assert valkey.llen(QUEUE) == 0


def test_a_repeated_request_queues_a_job_that_a_crash_left_out(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api, "one").json()["job_id"]
    valkey.delete(f"rq:job:{job_id}", QUEUE)
    assert ask(api, "one").json()["job_id"] == job_id
    assert valkey.lrange(QUEUE, 0, -1) == [job_id.encode()]


def test_the_job_of_an_idempotency_key_can_expire(make_settings: MakeSettings, valkey_url: str, valkey: Redis) -> None:
    with (
        serving(create_app(make_settings(valkey_url=valkey_url, result_ttl_seconds=1))) as url,
        httpx.Client(base_url=url) as api,
    ):
        job_id = ask(api, "one").json()["job_id"]
        valkey.delete(f"rq:job:{job_id}", QUEUE)
        wait_until(lambda: api.get(f"/job-status/{job_id}").status_code == 410)
        assert ask(api, "one").status_code == 410
        assert ask(api, "two").status_code == 202


def test_a_repeat_gives_the_same_job_after_its_upload_is_deleted(api: httpx.Client, settings: Settings) -> None:
    file = settings.data_dir.parent / "a.txt"
    file.write_text("The lamp weighs 142 grams.")
    index(file, settings)
    upload_id = api.get("/uploads").json()["uploads"][0]["upload_id"]
    job_id = ask(api, "one", upload_id=upload_id).json()["job_id"]
    assert api.delete(f"/uploads/{upload_id}").status_code == 202
    assert ask(api, "two", upload_id=upload_id).status_code == 404
    assert ask(api, "one", upload_id=upload_id).json()["job_id"] == job_id


def ask_many(api: httpx.Client, key: str, *questions: str) -> httpx.Response:
    body = {"questions": [{"query": question} for question in questions]}
    return api.post("/chat/batch", json=body, headers={"Idempotency-Key": key})


def test_a_repeated_batch_request_makes_one_batch(api: httpx.Client, valkey: Redis) -> None:
    first = ask_many(api, "one", "why?", "how?")
    again = ask_many(api, "one", "why?", "how?")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert valkey.llen(QUEUE) == 2
    assert ask_many(api, "one", "why?").status_code == 422
    assert ask(api, "one").status_code == 422  # the key belongs to a request of another kind
    assert ask_many(api, "two", "why?", "how?").json()["batch_id"] != first.json()["batch_id"]


def test_a_repeated_request_completes_a_batch_that_a_crash_cut_short(api: httpx.Client, valkey: Redis) -> None:
    made = ask_many(api, "one", "why?", "how?").json()
    valkey.delete(f"rq:job:{made['job_ids'][1]}")
    valkey.lrem(QUEUE, 0, made["job_ids"][1])
    assert ask_many(api, "one", "why?", "how?").json() == made
    assert sorted(valkey.lrange(QUEUE, 0, -1)) == sorted(one.encode() for one in made["job_ids"])


def upload(api: httpx.Client, key: str, *texts: str, **parameters: str) -> httpx.Response:
    files = [("file", (f"{place}.txt", text.encode())) for place, text in enumerate(texts)]
    return api.post("/uploads", files=files, params=parameters, headers={"Idempotency-Key": key})


def test_a_repeated_upload_request_stores_files_once(api: httpx.Client, valkey: Redis) -> None:
    first = upload(api, "one", "text", "more text", on_duplicate="keep")
    again = upload(api, "one", "text", "more text", on_duplicate="keep")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert len(api.get("/uploads").json()["uploads"]) == valkey.llen("rq:queue:rag_documents") == 2
    for other in (
        upload(api, "one", "text", on_duplicate="keep"),
        upload(api, "one", "text", "more texts", on_duplicate="keep"),
        upload(api, "one", "text", "more text"),
    ):
        assert other.status_code == 422
    assert upload(api, "two", "text", on_duplicate="keep").json()["upload_id"] not in first.text
    assert len(api.get("/uploads").json()["uploads"]) == 3


def test_a_repeat_reports_a_duplicate_again(api: httpx.Client) -> None:
    api.post("/uploads", files={"file": ("0.txt", b"text")})
    for key, texts in (("one", ["text"]), ("two", ["new text", "text"])):
        first, again = upload(api, key, *texts), upload(api, key, *texts)
        assert first.status_code == again.status_code == 202
        assert first.json() == again.json()
        assert first.json()["uploads"][-1]["duplicate"]


def test_files_that_were_deleted_since_are_a_documented_404(api: httpx.Client, settings: Settings) -> None:
    upload_id = upload(api, "one", "text").json()["upload_id"]
    assert api.delete(f"/uploads/{upload_id}").status_code == 202
    with closing(UploadRepository(Database(settings))) as uploads:  # as a worker does at the end of a delete
        uploads.finish_delete(upload_id)
    assert upload(api, "one", "text").status_code == 404
    assert "404" in api.get("/openapi.json").json()["paths"]["/uploads"]["post"]["responses"]


def test_a_key_stands_for_files_that_were_uploaded_before(api: httpx.Client) -> None:
    upload_id = upload(api, "one", "text").json()["upload_id"]
    for _ in range(2):
        assert upload(api, "two", "text").json()["upload_id"] == upload_id
    assert api.delete(f"/uploads/{upload_id}").status_code == 202
