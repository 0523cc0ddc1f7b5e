"""What whoever runs the service sees and does over HTTP: keys, settings, and the numbers of the last hour."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import httpx
from redis import Redis

from client.rq.stats import SAMPLE, quantile
from settings import Settings
from tests.api.test_security_headers import service
from tests.conftest import MakeSettings
from tests.support.callers import bearer
from tests.support.workers import work


def test_keys_are_made_shown_once_listed_and_revoked(api: httpx.Client) -> None:
    refused = api.post("/keys", json={"name": "first"})
    assert (refused.status_code, "scope admin" in refused.json()["detail"]) == (409, True)
    assert api.post("/keys", json={"name": "a"}, headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403
    admin = api.post("/keys", json={"name": "mine", "scopes": ["admin"]})
    assert admin.status_code == 201
    headers = bearer(admin.json()["key"])
    assert api.get("/keys").status_code == 401
    made = api.post("/keys", json={"name": " ci ", "user_id": "alice", "days": 1}, headers=headers).json()
    assert (made["name"], made["user_id"], made["scopes"], made["valid"]) == ("ci", "alice", ["query", "upload"], True)
    assert made["expires_at"] > datetime.now(UTC).isoformat()
    by_user = bearer(made["key"])
    assert api.get("/jobs", headers=by_user).status_code == 200
    assert {api.request(*call, headers=by_user).status_code for call in (("GET", "/keys"), ("GET", "/settings"))} == {
        403
    }
    listed = api.get("/keys", headers=headers)
    assert [key["name"] for key in listed.json()["keys"]] == ["mine", "ci"]
    assert made["key"] not in listed.text
    assert "sha256" not in listed.text
    revoked = api.delete(f"/keys/{made['key_id']}", headers=headers).json()
    assert (revoked["valid"], revoked["revoked_at"] is None) == (False, False)
    assert api.get("/jobs", headers=by_user).status_code == 401
    assert api.delete(f"/keys/{uuid.uuid4()}", headers=headers).status_code == 404
    for wrong in ({}, {"name": " "}, {"name": "a\nb"}, {"name": "a", "days": 0}, {"name": "a", "scopes": []}):
        assert api.post("/keys", json=wrong, headers=headers).status_code == 422, wrong


def test_settings_are_shown_without_secrets(make_settings: MakeSettings, valkey_url: str) -> None:
    secrets = {
        "openai_api_key": "sk-very-secret",
        "rerank_api_key": "very-secret",
        "chat_model": "writer-7",
    }
    with service(make_settings, valkey_url, **secrets) as client:
        answer = client.get("/settings")
    shown = {setting["name"]: setting for setting in answer.json()["settings"]}
    assert "very-secret" not in answer.text
    assert (shown["OPENAI_API_KEY"]["value"], shown["OPENAI_API_KEY"]["secret"]) == ("********", True)
    assert (shown["CHAT_MODEL"]["value"], shown["CHAT_MODEL"]["is_default"]) == ("writer-7", False)
    assert (shown["PORT"]["value"], shown["PORT"]["is_default"]) == (8000, True)
    assert (shown["JWT_SECRET"]["value"], shown["JWT_SECRET"]["secret"]) == (None, True)
    password = valkey_url.rpartition("@")[0].rpartition(":")[2]
    assert not password or password not in shown["VALKEY_URL"]["value"]


def test_the_last_hour_counts_what_became_of_questions(api: httpx.Client, settings: Settings, valkey: Redis) -> None:
    api.post("/uploads", files={"file": ("note.txt", b"The lamp turns once in twelve seconds.")})
    for _ in range(2):  # nothing is indexed yet when a worker takes the first question
        api.post("/chat", json={"query": "How often does the lamp turn?"})
        work(settings)
    cancelled = api.post("/chat", json={"query": "What is cancelled?"}).json()["job_id"]
    assert api.delete(f"/jobs/{cancelled}").is_success
    api.post("/chat", json={"query": "What waits?"})
    backlog = [minute["backlog"] for minute in api.get("/stats").json()["minutes"]]
    assert backlog[-1] == 1
    assert backlog[:50] == [0] * 50
    long_ago = time.time() + settings.result_ttl_seconds - 3 * 3_600
    valkey.zadd("rq:finished:rag_queries", {str(uuid.uuid4()): long_ago, "of another program": long_ago + 3 * 3_590})
    stats = api.get("/stats").json()
    total = stats["total"]
    assert {name: total[name] for name in ("queued", "answered", "failed", "cancelled")} == {
        "queued": 5,
        "answered": 2,  # RQ's registry has the job of another program, too
        "failed": 1,
        "cancelled": 1,
    }
    assert 0 <= total["p50_seconds"] == total["p95_seconds"] < 60  # a stock worker notes whole seconds
    assert len(stats["minutes"]) == 60
    assert sum(minute["queued"] for minute in stats["minutes"][-3:]) == 5
    assert stats["minutes"][0]["p50_seconds"] is None


def test_failed_jobs_are_listed_retried_and_dropped(api: httpx.Client, settings: Settings) -> None:
    """Where no document is there, each question fails in a way that another attempt may not."""
    ids = [api.post("/chat", json={"query": f"Why {n}?"}).json()["job_id"] for n in range(3)]
    locked = api.post("/uploads", files={"file": ("empty.txt", b" \n")}).json()["job_id"]
    work(settings)
    listed = api.get("/dead-letters").json()["dead_letters"]
    by_id = {letter["job_id"]: letter for letter in listed}
    assert set(by_id) == {*ids, locked}
    assert [letter["ended_at"] for letter in listed] == sorted((one["ended_at"] for one in listed), reverse=True)
    first = by_id[ids[0]]
    assert (first["kind"], first["query"], first["user_id"], first["retryable"]) == ("chat", "Why 0?", "local", True)
    assert "upload" in first["error"]
    document = by_id[locked]
    assert (document["kind"], document["name"], document["retryable"]) == ("document", "empty.txt", False)
    assert len(api.get("/dead-letters", params={"limit": 2}).json()["dead_letters"]) == 2

    assert api.post(f"/dead-letters/{ids[0]}/retry").json() == {"retried": 1, "left_out": 0}
    assert api.get(f"/job-status/{ids[0]}").json()["status"] == "queued"
    assert api.post(f"/dead-letters/{ids[0]}/retry").status_code == 404
    assert api.delete(f"/dead-letters/{ids[1]}").status_code == 204
    assert api.get(f"/job-status/{ids[1]}").status_code == 404
    assert api.post("/dead-letters/retry").json() == {"retried": 1, "left_out": 1}
    assert [letter["job_id"] for letter in api.get("/dead-letters").json()["dead_letters"]] == [locked]
    assert api.delete(f"/dead-letters/{uuid.uuid4()}").status_code == 404
    assert api.get("/dead-letters", params={"limit": 0}).status_code == 422


def test_users_are_listed_with_what_they_use_and_may(make_settings: MakeSettings, valkey_url: str) -> None:
    limits = {"uploads_per_day": 5, "tokens_per_day": 900, "max_stored_mb": 2, "max_queued_jobs": 7}
    with service(make_settings, valkey_url, **limits) as client:
        assert client.get("/users").json()["users"] == []
        client.post("/uploads", files={"file": ("note.txt", b"The lamp turns once.")}).raise_for_status()
        admin = bearer(
            client.post("/keys", json={"name": "mine", "user_id": "root", "scopes": ["admin"]}).json()["key"]
        )
        made = client.post("/keys", json={"name": "hers", "user_id": "alice"}, headers=admin).json()
        client.post("/chat", json={"query": "Why?"}, headers=bearer(made["key"])).raise_for_status()
        page = client.get("/users", headers=admin).json()
        assert page["limits"] == {
            "max_stored_bytes": 2 * 1024 * 1024,
            "max_waiting_jobs": 7,
            "uploads_per_day": 5,
            "tokens_per_day": 900,
            "requests_per_minute": None,
        }
        assert [user["user_id"] for user in page["users"]] == ["alice", "local", "root"]
        alice, local, _ = page["users"]
        assert (alice["keys"], alice["uploads"], alice["waiting_jobs"], alice["tokens_today"]) == (1, 0, 1, 0)
        assert (local["keys"], local["uploads"], local["stored_bytes"], local["uploads_today"]) == (0, 1, 20, 1)
        client.delete(f"/keys/{made['key_id']}", headers=admin).raise_for_status()
        first = client.get("/users", params={"limit": 1}, headers=admin).json()
        assert ([user["keys"] for user in first["users"]], first["next"]) == ([0], "alice")
        rest = client.get("/users", params={"after": first["next"]}, headers=admin).json()
        assert ([user["user_id"] for user in rest["users"]], rest["next"]) == (["local", "root"], None)


def test_callers_are_told_whether_they_run_the_service(api: httpx.Client) -> None:
    assert api.get("/me").json()["is_operator"] is True
    assert api.get("/me", headers={"X-Forwarded-For": "192.0.2.1"}).json()["is_operator"] is False
    admin = bearer(api.post("/keys", json={"name": "mine", "scopes": ["admin"]}).json()["key"])
    user = bearer(api.post("/keys", json={"name": "hers", "user_id": "alice"}, headers=admin).json()["key"])
    told = [api.get("/me", headers=headers).json() for headers in (admin, user)]
    assert [one["is_operator"] for one in told] == [True, False]
    assert [one["is_admin"] for one in told] == [True, False]


def test_quantiles_are_values_that_occurred() -> None:
    assert quantile([], 0.5) is None
    assert [quantile([1, 2, 3, 4], share) for share in (0.5, 0.95)] == [2, 4]
    assert quantile(list(map(float, range(1, SAMPLE + 1))), 0.95) == 0.95 * SAMPLE
