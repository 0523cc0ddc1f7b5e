"""Uploads whose job, file or points were lost, and deletes after a change of the embedding model."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from cli.audit import run_audit
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import UPLOAD_FIELD, USER_FIELD
from client.qdrant.server import server_store
from client.qdrant.store import VectorStore
from documents import service
from queues.jobs import building
from schemas import Chunk, SearchFilter
from settings import Settings
from tests.api.test_uploads import post, state, uploaded
from tests.conftest import MakeSettings
from tests.queues.test_chat import variables
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.processes import PYTHON, run, running, wait_until
from tests.support.workers import work, worker_services


def audit(settings: Settings, *flags: str) -> list[str]:
    """Run `main.py audit`; return its findings."""
    done = run([PYTHON, "main.py", "audit", *flags], **variables(settings))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[:-1]


def test_a_job_that_valkey_lost_is_submitted_again(
    api: httpx.Client, settings: Settings, valkey: Redis, pdf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "YOUNG_SECONDS", 0.0)
    body = post(api, pdf).json()
    valkey.flushall()
    assert state(api, body["upload_id"])["status"] == "queued"  # reading the upload reconciles it
    work(settings)
    assert state(api, body["upload_id"])["status"] == "ready"
    assert api.get(f"/job-status/{body['job_id']}").json()["status"] == "finished"


def test_audit_names_the_upload_whose_lost_job_is_submitted_again(
    api: httpx.Client, settings: Settings, valkey: Redis, pdf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "YOUNG_SECONDS", 0.0)
    body = post(api, pdf).json()
    valkey.flushall()
    line = f"upload {body['upload_id']} was queued without a job: its job is queued again"
    assert run_audit(settings, url=settings.queue_url, repair=True, delete=False) == [line]
    assert api.get(f"/job-status/{body['job_id']}").json()["status"] == "queued"
    assert run_audit(settings, url=settings.queue_url, repair=True, delete=False) == []


def test_a_job_failure_missing_from_the_row_fails_the_upload(
    api: httpx.Client, settings: Settings, valkey: Redis, pdf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "YOUNG_SECONDS", 0.0)
    body = post(api, pdf).json()
    valkey.hset(f"rq:job:{body['job_id']}", "status", "failed")  # as a worker that died leaves it
    failed = state(api, body["upload_id"])
    assert failed["status"] == "failed"
    assert failed["reason"]
    api.post(f"/uploads/{body['upload_id']}/reindex")
    work(settings)
    assert state(api, body["upload_id"])["status"] == "ready"


def test_audit_finds_and_repairs_inconsistencies(api: httpx.Client, settings: Settings, pdf: Path) -> None:
    whole, without_points = uploaded(api, pdf), uploaded(api, pdf, on_duplicate="keep")
    without_file = uploaded(api, ("notes.txt", b"The lamp turns."))
    work(settings)
    stray = Chunk(
        id=str(uuid.uuid4()),
        upload_id=str(uuid.uuid4()),
        user_id="local",
        name="x",
        index=0,
        page=1,
        page_label="1",
        start=0,
        end=4,
        text="lost",
    )
    with worker_services(settings) as services:
        services.store.upsert([stray])
        services.store.delete(without_points, user_id="local")
        lost = services.uploads.get(without_file)
        assert lost is not None
        services.files.delete(lost.file_id)
    expected = {stray.upload_id, without_points, without_file}
    assert len(audit(settings, "--dry-run")) == 3
    with worker_services(settings) as services:
        assert services.store.count_by_upload()["local", stray.upload_id] == 1
    found = audit(settings, "--repair")
    assert {one for one in expected if any(one in line for line in found)} == expected
    assert not any(whole in line for line in found)
    work(settings)
    assert audit(settings) == []
    assert state(api, without_points)["status"] == "ready"
    assert state(api, without_file)["reason"] == "file_missing"


def test_an_audit_counts_again_only_the_points_of_what_seems_incomplete(
    api: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_others = (uploaded(api, (f"{number}.txt", f"Lamp {number} turns.".encode())) for number in range(4))
    work(settings)
    counted: list[tuple[str, ...] | None] = []
    count = VectorStore.count

    def note(store: VectorStore, search_filter: SearchFilter) -> int:
        counted.append(search_filter.upload_ids)
        return count(store, search_filter)

    monkeypatch.setattr(VectorStore, "count", note)
    assert run_audit(settings, url=settings.queue_url, repair=True, delete=True) == []
    assert counted == []
    with worker_services(settings) as services:
        services.store.delete(first, user_id="local")
    assert len(run_audit(settings, url=settings.queue_url, repair=False, delete=False)) == 1
    assert counted == [(first,)]


def test_a_delete_reaches_the_points_of_every_embedding_model(
    api: httpx.Client, settings: Settings, make_settings: MakeSettings, stub: OpenAIStub, pdf: Path
) -> None:
    upload_id = uploaded(api, pdf)
    work(settings)
    other = make_settings(valkey_url=settings.queue_url, openai_base_url=stub.url, openai_api_key=KEY)
    with worker_services(other) as services:
        version = building.begin_build(services)
        assert version is not None
        building.run_step(services, lambda _progress: None, seconds=0)
        for store in (services.store, services.index.open(version).store):
            assert store.count_by_upload() == {("local", upload_id): 3}
    api.delete(f"/uploads/{upload_id}")
    work(other)
    with worker_services(other) as services:
        collections = services.index.collections
        assert len(collections.names()) == 2
        for name in collections.names():
            assert collections.engine(name).count_by(USER_FIELD, UPLOAD_FIELD) == {}


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
def test_a_qdrant_server_deletes_from_every_collection() -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    stores = [server_store(client, model=model, dense=None, bm25=Bm25Encoder()) for model in ("one", "two")]
    chunk = Chunk(
        id=str(uuid.uuid4()),
        upload_id="u",
        user_id="local",
        name="x",
        index=0,
        page=1,
        page_label="1",
        start=0,
        end=4,
        text="lamp",
    )
    changed = chunk.model_copy(update={"text": "lamps"})
    for store in stores:
        assert store.missing([chunk]) == [chunk]
        store.upsert([chunk])
        assert store.missing([chunk]) == []
        assert store.missing([changed]) == [changed]
        assert store.count_by_upload() == {("local", "u"): 1}
    stores[0].delete_everywhere("u", user_id="another")
    assert stores[1].count_by_upload() == {("local", "u"): 1}
    stores[0].delete_everywhere("u", user_id="local")
    assert [store.count_by_upload() for store in stores] == [{}, {}]
    client.close()


def test_an_upload_whose_indexing_was_cancelled_says_so(
    api: httpx.Client, settings: Settings, pdf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "YOUNG_SECONDS", 0.0)
    body = post(api, pdf).json()
    api.delete(f"/jobs/{body['job_id']}")
    assert_cancelled(state(api, body["upload_id"]))
    api.post(f"/uploads/{body['upload_id']}/reindex")
    work(settings)
    assert state(api, body["upload_id"])["status"] == "ready"


def test_an_indexing_that_is_cancelled_while_it_runs_says_so(
    api: httpx.Client, settings: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    use = variables(settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    stub.behaviour.embedding_delay_seconds = 30
    with running([PYTHON, "main.py", "worker"], tmp_path / "w.log", **use) as worker:
        body = post(api, pdf).json()
        wait_until(lambda: stub.behaviour.calls, what=lambda: worker.output)
        assert api.delete(f"/jobs/{body['job_id']}").json()["status"] == "cancelled"
        # The worker itself records this: the row is too young to be reconciled.
        wait_until(lambda: state(api, body["upload_id"])["status"] == "failed", seconds=5)
    assert_cancelled(state(api, body["upload_id"]))


def assert_cancelled(upload: dict[str, Any]) -> None:
    assert (upload["status"], upload["reason"]) == ("failed", "cancelled")
    assert upload["error"] == "its indexing was cancelled; index it again"
