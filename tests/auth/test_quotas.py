"""The limits of callers: what counts, for whom, and the response when a limit is reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from redis import Redis

from api.uvicorn_protocol import uvicorn_options
from auth.token_budget import count_tokens
from client.valkey.keys import quoted
from server import create_app
from settings import Settings
from tests.api.test_api import assert_problem
from tests.conftest import MakeSettings
from tests.queues.test_chat import QUESTION, index
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import PYTHON, running, wait_until

ALICE, BOB = bearer(token("alice")), bearer(token("bob"))


@contextmanager
def limited(settings: Settings, **limits: int) -> Iterator[httpx.Client]:
    with (
        serving(create_app(settings.model_copy(update=TAKING_TOKENS | limits))) as url,
        httpx.Client(base_url=url, timeout=10) as api,
    ):
        yield api


def assert_limited(response: httpx.Response, limit: str, *, within_seconds: int) -> None:
    """Check that a response refuses because of a limit, and says when to try again."""
    problem = assert_problem(response, 429)
    assert limit in problem["detail"]
    assert 1 <= int(response.headers["retry-after"]) <= within_seconds


def test_without_limits_nothing_is_counted_and_no_header_is_sent(settings: Settings, valkey: Redis) -> None:
    with limited(settings) as api:
        answer = api.get("/jobs", headers=ALICE)
    assert not [name for name in answer.headers if name.startswith("ratelimit")]
    assert valkey.keys("rag:limits*") == []


def test_requests_are_limited_for_each_key(settings: Settings) -> None:
    with limited(settings, requests_per_minute=5) as api:
        answers = [api.get("/jobs", headers=ALICE) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=4", "r=3", "r=2", "r=1"] + [
            "r=0"
        ] * 2
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"requests";q=5;w=60'}
        assert_limited(answers[-1], "REQUESTS_PER_MINUTE", within_seconds=120)
        assert api.get("/jobs", headers=BOB).status_code == 200
        # Public routes are not counted, and a refused caller uses up nobody's requests.
        for _ in range(10):
            assert api.get("/health", headers=BOB).status_code == 200
            assert api.get("/jobs").status_code == 401
        assert api.get("/jobs", headers=BOB).status_code == 200


def test_every_process_counts_together(settings: Settings) -> None:
    with limited(settings, requests_per_minute=3) as one, limited(settings, requests_per_minute=3) as other:
        statuses = [api.get("/jobs", headers=ALICE).status_code for api in (one, other, one, other, one)]
    assert statuses == [200, 200, 200, 429, 429]


def test_wrong_keys_are_limited_for_each_address_and_lock_out_no_valid_key(settings: Settings) -> None:
    wrong, valid = bearer("rag_" + "x" * 43), ALICE
    with limited(settings) as one, limited(settings) as other:
        statuses = [api.get("/jobs", headers=wrong).status_code for api in (one, other) * 15]
        assert set(statuses) == {401}
        for api in (one, other):
            assert_limited(api.get("/jobs", headers=wrong), "wrong keys", within_seconds=120)
            assert_limited(api.get("/jobs", headers=bearer("a.b.c")), "token", within_seconds=120)
            assert api.get("/jobs", headers=valid).status_code == 200
            assert api.get("/jobs").status_code == 401  # a request without a key guesses nothing


def test_wrong_keys_are_counted_for_the_client_behind_a_trusted_proxy(settings: Settings) -> None:
    behind = settings.model_copy(update=TAKING_TOKENS | {"trusted_proxies": "127.0.0.1"})
    with (
        serving(create_app(behind), **uvicorn_options(behind)) as url,
        httpx.Client(base_url=url, timeout=10, headers=bearer("rag_wrong")) as api,
    ):

        def status(address: str) -> int:
            return api.get("/jobs", headers={"X-Forwarded-For": address}).status_code

        assert [status("192.0.2.7") for _ in range(31)] == [401] * 30 + [429]
        assert status("192.0.2.8") == 401
        # The hosts of an IPv6 network choose the second half of their address.
        assert [status(f"2001:db8::{host:x}") for host in range(31)] == [401] * 30 + [429]
        assert status("2001:db8:0:1::1") == 401


def test_wrong_keys_are_refused_without_valkey(make_settings: MakeSettings) -> None:
    with limited(make_settings(valkey_url="redis://127.0.0.1:1")) as api:
        assert {api.get("/jobs", headers=bearer("rag_wrong")).status_code for _ in range(3)} == {401}


def test_waiting_jobs_are_limited_for_each_user(settings: Settings) -> None:
    with limited(settings, max_queued_jobs=3) as api:
        jobs = [api.post("/chat", params={"query": "Why?"}, headers=ALICE) for _ in range(4)]
        assert [answer.status_code for answer in jobs] == [202, 202, 202, 429]
        assert_limited(jobs[-1], "of your jobs may wait", within_seconds=60)
        assert jobs[-1].headers["ratelimit-policy"] == '"queued-jobs";q=3;qu="concurrent-requests"'
        assert jobs[-1].headers["ratelimit"] == '"queued-jobs";r=0;t=10'
        many = {"questions": [{"query": "Why?"}] * 4}
        assert_problem(
            api.post("/chat/batch", json=many, headers=BOB), 429
        )  # all questions are accepted, or no question
        assert api.get("/jobs", headers=BOB).json()["jobs"] == []
        upload = {"file": ("a.txt", b"text")}
        assert_problem(api.post("/uploads", files=upload, headers=ALICE), 429)
        assert api.get("/uploads", headers=ALICE).json()["uploads"] == []
        assert api.post("/uploads", files=upload, headers=BOB).status_code == 202
        assert api.delete(f"/jobs/{jobs[0].json()['job_id']}", headers=ALICE).json()["status"] == "cancelled"
        assert api.post("/chat", params={"query": "Why?"}, headers=ALICE).status_code == 202


def test_uploads_per_day_are_limited_for_each_user(settings: Settings) -> None:
    with limited(settings, uploads_per_day=3) as api:
        files = [("file", (f"{n}.txt", f"text {n}".encode())) for n in range(4)]
        assert api.post("/uploads", files=files[:2], headers=ALICE).status_code == 202
        assert_limited(api.post("/uploads", files=files[2:], headers=ALICE), "UPLOADS_PER_DAY", within_seconds=86_400)
        assert len(api.get("/uploads", headers=ALICE).json()["uploads"]) == 2
        # Refused uploads are not counted.
        assert api.post("/uploads", files=files[2:3], headers=ALICE).status_code == 202
        assert_limited(api.post("/uploads", files=files, headers=BOB), "UPLOADS_PER_DAY", within_seconds=86_400)
        assert api.post("/uploads", files=files[:3], headers=BOB).status_code == 202


def test_stored_bytes_are_limited_for_each_user(settings: Settings) -> None:
    with limited(settings, max_stored_mb=1) as api:
        half = b"word " * 120_000
        first = api.post("/uploads", files={"file": ("a.txt", half)}, headers=ALICE).json()["upload_id"]
        second = {"file": ("b.txt", half + b".")}
        refused = api.post("/uploads", files=second, headers=ALICE)
        free = 1024 * 1024 - len(half)
        assert_limited(refused, f"{free} bytes are free", within_seconds=3_600)
        assert refused.headers["ratelimit-policy"] == '"stored-bytes";q=1048576;qu="content-bytes"'
        assert refused.headers["ratelimit"] == f'"stored-bytes";r={free};t=3600'
        assert len(api.get("/uploads", headers=ALICE).json()["uploads"]) == 1
        assert api.post("/uploads", files=second, headers=BOB).status_code == 202
        api.delete(f"/uploads/{first}", headers=ALICE)
        assert api.post("/uploads", files=second, headers=ALICE).status_code == 202


def test_tokens_per_day_are_counted_by_workers_and_limit_questions(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    settings = make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY, tokens_per_day=1)
    model = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
    variables = {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": valkey_url, "TOKENS_PER_DAY": "1"} | model
    index(pdf, settings, **model)
    with (
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, timeout=20) as api,
        running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **variables) as worker,
    ):
        job = api.post("/chat", params={"query": QUESTION}).json()["job_id"]
        wait_until(lambda: api.get(f"/result/{job}").status_code == 200, seconds=40, what=lambda: worker.output)
        result = api.get(f"/result/{job}").json()
        assert result["usage"]["total_tokens"] > 1, result
        many = {"questions": [{"query": QUESTION}]}
        for refused in (api.post("/chat", params={"query": QUESTION}), api.post("/chat/batch", json=many)):
            assert_limited(refused, "TOKENS_PER_DAY", within_seconds=86_400)


def test_questions_queued_before_the_limit_was_reached_spend_no_more_tokens(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    settings = make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY, tokens_per_day=3)
    model = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "WORKER_CONCURRENCY": "1"}
    variables = {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": valkey_url, "TOKENS_PER_DAY": "3"} | model
    index(pdf, settings, **model)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=20) as api:
        questions = {"questions": [{"query": f"{QUESTION} {number}"} for number in range(5)]}
        batch = api.post("/chat/batch", json=questions).json()
        with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **variables) as worker:
            state = f"/batches/{batch['batch_id']}"
            wait_until(
                lambda: (seen := api.get(state).json())["finished"] + seen["failed"] == 5,
                seconds=40,
                what=lambda: worker.output,
            )
        results = [api.get(f"/result/{job_id}").json() for job_id in batch["job_ids"]]
        done = [result for result in results if result["status"] == "completed"]
        refused = [result["error"] for result in results if result["status"] == "failed"]
        assert len(done) == 2  # two tokens each: the second began with one token left
        assert all("TOKENS_PER_DAY" in str(error) for error in refused)


def test_users_with_a_slash_in_their_names_are_counted_apart(settings: Settings, valkey: Redis) -> None:
    assert quoted("a/b") != quoted("a%2Fb")
    count_tokens(valkey, user_id="a/1", tokens=5, limit=5)
    limits = {"tokens_per_day": 5}
    with limited(settings, **limits) as api:
        assert api.post("/chat", params={"query": "Why?"}, headers=bearer(token("a"))).status_code == 202
        assert api.post("/chat", params={"query": "Why?"}, headers=bearer(token("a/1"))).status_code == 429


def test_without_valkey_limited_calls_are_refused(make_settings: MakeSettings) -> None:
    with limited(make_settings(valkey_url="redis://127.0.0.1:1"), requests_per_minute=5) as api:
        assert_problem(api.get("/uploads", headers=ALICE), 503)
        assert api.get("/health").status_code == 200
