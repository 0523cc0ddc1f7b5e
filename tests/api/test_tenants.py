"""No user reaches the resources of another user: every route, for every kind of caller."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from redis import Redis

from auth.api_keys import ApiKeyRepository
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from client.sql.database import Database
from client.sql.uploads import UploadRepository
from documents.access_filter import AccessFilter
from rag.ingest.chunking import chunk_pages
from schemas import DEFAULT_SCOPES, Caller, Document, KeyScope, Page, Query, Upload, UploadStatus
from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving
from tests.support.processes import wait_until

Call = tuple[str, str]
OPEN = {("GET", "/"), ("GET", "/health"), ("GET", "/ready"), ("POST", "/session"), ("DELETE", "/session")}
ASK: set[Call] = {
    ("POST", "/chat"),
    ("POST", "/chat/batch"),
    ("GET", "/batches/{batch_id}"),
    ("GET", "/batches/{batch_id}/results"),
    ("GET", "/conversations"),
    ("GET", "/conversations/{conversation_id}/items"),
    ("DELETE", "/conversations/{conversation_id}"),
}
BRING: set[Call] = {
    ("POST", "/uploads"),
    ("DELETE", "/uploads/{upload_id}"),
    ("POST", "/uploads/{upload_id}/reindex"),
}
# Routes that create a resource or show the caller's resources, and so cannot name a resource of another user.
OWN: set[Call] = {
    ("POST", "/chat"),
    ("POST", "/chat/batch"),
    ("POST", "/uploads"),
    ("POST", "/webhooks"),
    ("GET", "/webhooks/secret"),
    ("GET", "/jobs"),
    ("GET", "/stats"),
    ("GET", "/conversations"),
    ("GET", "/me"),
    ("GET", "/uploads"),
    ("GET", "/webhooks"),
    ("GET", "/webhooks/deliveries"),
}

# Calls about everybody's resources.
OF_ADMINS: set[Call] = {
    ("POST", "/uploads/reindex"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("DELETE", "/keys/{key_id}"),
    ("GET", "/settings"),
    ("GET", "/settings/suggested"),
    ("GET", "/users"),
    ("GET", "/dead-letters"),
    ("POST", "/dead-letters/retry"),
    ("POST", "/dead-letters/{job_id}/retry"),
    ("DELETE", "/dead-letters/{job_id}"),
    ("GET", "/metrics"),
}


@dataclass
class Alice:
    """Alice's resources: their ids by the names of path parameters."""

    ids: dict[str, str]
    secret: str

    def mentioned(self, text: str) -> list[str]:
        return [what for what in [*self.ids.values(), self.secret] if what in text]


@dataclass
class World:
    """The API, with a resource of every kind."""

    api: httpx.Client
    alice: Alice
    keys: ApiKeyRepository
    calls: list[Call] = field(default_factory=list)

    def call(self, what: Call, headers: dict[str, str], ids: dict[str, str] | None = None) -> httpx.Response:
        """Make a call that succeeds for alice, about her resources or about the resources with other `ids`."""
        method, path = what
        ids = ids or self.alice.ids
        params = {"job_id": ids["job_id"]} if what == ("GET", "/job-status") else {}
        if path.endswith("/boxes"):
            params = {"quote": "lighthouse"}
        body: dict[str, object] = {}
        if what == ("POST", "/chat"):
            body = {"json": {"query": "Why?"}}
        if what == ("POST", "/chat/batch"):
            body = {"json": {"questions": [{"query": "Why?"}]}}
        if what == ("POST", "/uploads"):
            body = {"files": {"file": (f"{uuid.uuid4()}.txt", b"text of somebody" + uuid.uuid4().bytes.hex().encode())}}
        if what == ("POST", "/keys"):
            body = {"json": {"name": "another"}}
        if what == ("POST", "/webhooks"):
            body = {"json": {"url": "https://example.com/hook"}}
        return self.api.request(method, path.format(page=1, **ids), params=params, headers=headers, **body)  # type: ignore[arg-type]

    def without_streams(self) -> list[Call]:
        return [what for what in self.calls if not what[1].endswith("/events")]


@pytest.fixture
def world(make_settings: MakeSettings, valkey_url: str, valkey: Redis, pdf: Path) -> Iterator[World]:
    settings = make_settings(valkey_url=valkey_url, webhook_allow_private=True, webhook_allow_http=True)
    settings = settings.model_copy(update=TAKING_TOKENS)
    database = Database(settings)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=20) as api:
        paths = api.get("/openapi.json").json()["paths"]
        calls = [(method.upper(), path) for path, methods in paths.items() for method in methods]
        spare, _ = ApiKeyRepository(database).create("spare", user_id="alice", scopes=DEFAULT_SCOPES)
        alice = _furnish(api, valkey, pdf, bearer(token("alice")))
        alice.ids["key_id"] = spare.key_id
        yield World(api, alice, ApiKeyRepository(database), [what for what in calls if what not in OPEN])
    database.close()


def _furnish(api: httpx.Client, valkey: Redis, pdf: Path, headers: dict[str, str]) -> Alice:
    """Give alice a resource of every kind."""
    endpoint = api.post("/webhooks", json={"url": "http://127.0.0.1:1999/hook"}, headers=headers).json()
    ended = api.post("/chat", params={"query": "Why?"}, headers=headers).json()["job_id"]
    valkey.hset(f"rq:job:{ended}", "status", "canceled")
    wait_until(lambda: valkey.llen("rq:queue:rag_webhooks"), what="the sweep of the API")
    (delivery,) = api.get("/webhooks/deliveries", headers=headers).json()["deliveries"]
    ids = {
        "conversation_id": api.post("/v1/conversations", json={}, headers=headers).json()["id"],
        "endpoint_id": endpoint["id"],
        "delivery_id": delivery["id"],
        "job_id": api.post("/chat", params={"query": "Why?"}, headers=headers).json()["job_id"],
        "batch_id": api.post("/chat/batch", json={"questions": [{"query": "Why?"}]}, headers=headers).json()[
            "batch_id"
        ],
        "upload_id": api.post("/uploads", files={"file": ("a.pdf", pdf.read_bytes())}, headers=headers).json()[
            "upload_id"
        ],
    }
    return Alice(ids, api.get("/webhooks/secret", headers=headers).json()["secret"])


def key(world: World, *scopes: KeyScope, good: bool = True, user: str = "alice") -> tuple[str, dict[str, str]]:
    expires_at = None if good else datetime.now(UTC) - timedelta(seconds=1)
    made, text = world.keys.create("k", user_id=user, scopes=scopes or DEFAULT_SCOPES, expires_at=expires_at)
    wait_until(lambda: not good or world.api.get("/jobs", headers=bearer(text)).status_code != 401)
    return made.key_id, bearer(text)


def test_no_route_answers_without_a_valid_key(world: World) -> None:
    assert len(world.calls) >= 20
    _, expired = key(world, good=False)
    revoked_id, revoked = key(world)
    world.keys.revoke(revoked_id)
    wait_until(lambda: world.api.get("/jobs", headers=revoked).status_code == 401, what="the end of the key")
    for what in world.calls:
        for name, headers in (("no key", {}), ("expired", expired), ("revoked", revoked), ("wrong", bearer("rag_x"))):
            answer = world.call(what, headers)
            refusals = {401} if name == "no key" else {401, 429}  # 429 after many wrong keys
            assert answer.status_code == answer.json()["status"], (name, what)
            assert answer.status_code in refusals, (name, what)
            assert not world.alice.mentioned(answer.text), (name, what)


def test_every_route_requires_a_scope(world: World) -> None:
    asks, brings, neither = (bearer(token("alice", scope=scope)) for scope in ("query", "upload", "openid"))
    for what in world.calls:
        wrong = [neither, *([brings] if what in ASK else []), *([asks] if what in BRING else [])]
        for headers in wrong:
            answer = world.call(what, headers)
            assert (answer.status_code, answer.json()["title"]) == (403, "Not allowed"), what
    for what in sorted(ASK, reverse=True):
        assert world.call(what, asks).is_success, what
    for what in sorted(BRING, reverse=True):
        assert world.call(what, brings).status_code == 202, what


def test_resources_of_another_user_are_not_found(world: World) -> None:
    _, by_key = key(world, user="bob")
    for headers in (by_key, bearer(token("bob"))):
        for what in world.calls:
            answer = world.call(what, headers)
            if what in OWN:
                assert answer.is_success, (what, answer.text)
                assert not world.alice.mentioned(answer.text), what
            elif what in OF_ADMINS:
                assert answer.status_code == 403, (what, answer.text)
            else:
                assert answer.status_code == 404, (what, answer.text)
                # The message is the same as for a resource that does not exist.
                absent = world.call(what, headers, ABSENT)
                assert _masked(answer, world.alice.ids) == _masked(absent, ABSENT), what


def test_questions_about_anothers_uploads_are_refused(world: World) -> None:
    upload_id = world.alice.ids["upload_id"]
    for after in (False, True):
        asked = {"query": "Why?", "upload_id": upload_id, "after_upload": after}
        assert world.api.post("/chat", json=asked, headers=bearer(token("bob"))).status_code == 404
    batch = {"questions": [{"query": "Why?", "upload_id": upload_id}]}
    assert world.api.post("/chat/batch", json=batch, headers=bearer(token("bob"))).status_code == 404


def test_an_admin_sees_the_resources_of_all_users(world: World) -> None:
    _, headers = key(world, KeyScope.ADMIN, user="root")
    for what in sorted(world.without_streams(), key=lambda what: what[0] == "DELETE"):
        answer = world.call(what, headers)
        if what == ("POST", "/webhooks/deliveries/{delivery_id}/redeliver"):
            assert answer.status_code in {202, 409}
        elif what[1].startswith("/dead-letters/{job_id}"):
            assert answer.status_code == 404  # none of these jobs has failed
        else:
            assert answer.is_success, (what, answer.text)
    for listing, name in (("/jobs", "job_id"), ("/webhooks/deliveries", "delivery_id"), ("/uploads", "upload_id")):
        assert world.alice.ids[name] in world.api.get(listing, headers=headers).text


def test_two_users_may_use_the_same_names(world: World) -> None:
    jobs = []
    for user in ("alice", "bob"):
        headers = bearer(token(user)) | {"Idempotency-Key": "same"}
        asked = {"query": "Why?", "conversation_id": "same"}
        jobs.append(world.api.post("/chat", json=asked, headers=headers).json()["job_id"])
    assert len(set(jobs)) == 2
    assert world.api.get(f"/job-status/{jobs[1]}", headers=bearer(token("bob"))).json()["position"] >= 1


ABSENT = {
    "conversation_id": "conv_01a00000000070008000000000000004",
    "endpoint_id": "01a00000-0000-7000-8000-000000000001",
    "delivery_id": "0" * 32,
    "job_id": "ffffffff-0000-4000-8000-000000000001",
    "batch_id": "01a00000-0000-7000-8000-000000000002",
    "upload_id": "01a00000-0000-7000-8000-000000000003",
    "key_id": "01a00000-0000-7000-8000-000000000004",
}


def _masked(answer: httpx.Response, ids: dict[str, str]) -> str:
    text = answer.text
    for name, value in ids.items():
        text = text.replace(value, name)
    return text


def _chunks(upload_id: str, user: str) -> list[object]:
    texts = [f"The museum of {user} opens at nine.", f"Admission costs {len(user)} crowns, says {user}."]
    pages = [Page(number=n, label=str(n), text=text) for n, text in enumerate(texts, start=1)]
    return list(
        chunk_pages(Document(upload_id=upload_id, path="x.pdf", name="x.pdf", user_id=user), pages, model="bm25")
    )


def test_ten_thousand_searches_find_nothing_of_others(settings: Settings, tmp_path: Path) -> None:
    chance = random.Random(7)
    users = [f"user {n}" for n in range(20)] + ["", "local", "user", "user 1 ", "USER 1", "*", "user 1/x", "ü", "u:1"]
    users.remove("")
    database = Database(settings)
    listed = UploadRepository(database)
    lexicon = Bm25Encoder()
    store = embedded_store(tmp_path / "qdrant", model="bm25", dense=None, bm25=lexicon, owner=True)
    uploads: dict[str, str] = {}
    for user in users:
        for _ in range(3):
            upload_id = str(uuid.uuid4())
            uploads[upload_id] = user
            _list(listed, upload_id, user)
            store.upsert(_chunks(upload_id, user))  # type: ignore[arg-type]
    visible = AccessFilter(store, listed, index_version=None)
    try:
        for _ in range(10_000):
            user, other = chance.choice(users), chance.choice(users)
            named = [None, tuple(chance.sample(sorted(uploads), 5))][chance.random() < 0.3]
            asked = Query(query=f"What does the museum of {other} cost?", user_id=user, upload_ids=named)
            [found] = visible.search(asked.query, None, [asked.search_filter], 8)
            assert {uploads[one] for one in found.uploads} <= {user}
            if named is None:
                assert found.uploads
        everyone = Query(query="museum", user_id="root", everyone=True)
        [found] = visible.search("museum", None, [everyone.search_filter], 100)
        assert len({uploads[one] for one in found.uploads}) > 10
    finally:
        store.close()
        database.close()


def _list(listed: UploadRepository, upload_id: str, user: str) -> None:
    now = datetime.now(UTC)
    upload = Upload(
        upload_id=upload_id,
        user_id=user,
        file_id=upload_id,
        name="x.pdf",
        media_type="application/pdf",
        bytes=1,
        sha256=uuid.uuid4().hex,
        status=UploadStatus.READY,
        job_id=None,
        created_at=now,
        updated_at=now,
        indexed_at=now,
    )
    listed.add(upload, unique=False)


def test_the_search_filter_depends_only_on_the_caller() -> None:
    asked: Callable[[Caller], Query] = lambda caller: Query(  # noqa: E731
        query="Why?", user_id=caller.user_id, everyone=caller.visible_owner is None
    )
    assert asked(Caller(user_id="bob")).search_filter.user_id == "bob"
    assert asked(Caller(user_id="bob", scopes=frozenset(KeyScope))).search_filter.user_id is None
