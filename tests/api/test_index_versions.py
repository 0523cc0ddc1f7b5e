"""The index over HTTP: what is searched, how far the next version is, and the request to build one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from queues.jobs import building
from rag.ingest.chunking import CHUNKING_VERSION
from schemas import KeyScope
from server import create_app
from settings import Settings
from tests.api.test_uploads import state, uploaded
from tests.conftest import MakeSettings
from tests.support.callers import AUDIENCE, ISSUER, SECRET, bearer, token
from tests.support.openai_stub import DIMENSIONS, KEY, OpenAIStub, serving
from tests.support.workers import work, worker_services

BY_WORDS = {"model": "bm25", "dimensions": None, "chunking": CHUNKING_VERSION}


@pytest.fixture
def by_meaning(settings: Settings, make_settings: MakeSettings, stub: OpenAIStub) -> Settings:
    """The settings of a worker that was started again with another model."""
    return make_settings(
        valkey_url=settings.queue_url, openai_base_url=stub.url, openai_api_key=KEY, embedding_model="words-64"
    )


def test_the_index_and_its_build_are_shown(
    api: httpx.Client, settings: Settings, by_meaning: Settings, pdf: Path
) -> None:
    assert api.get("/ready").json()["index"] == {"searched": None, "building": None, "earlier": []}
    upload = uploaded(api, pdf)
    assert state(api, upload)["searched"] is False
    work(settings)
    assert state(api, upload)["searched"] is True
    assert state(api, upload)["index"] == {"model": "bm25", "chunking": CHUNKING_VERSION}
    with worker_services(by_meaning) as services:
        building.begin_build(services)
    shown = api.get("/ready").json()
    assert shown["index"]["searched"] == BY_WORDS
    assert shown["index"]["building"] == {
        "model": "words-64",
        "dimensions": None,
        "chunking": CHUNKING_VERSION,
        "status": "building",
        "done": 0,
        "total": 1,
        "error": None,
    }
    assert api.get("/uploads").json()["uploads"][0]["index"]["model"] == "bm25"
    with worker_services(by_meaning) as services:
        building.build_here(services, lambda _progress: None)
    index = api.get("/ready").json()["index"]
    for version in index.pop("earlier"):  # until a worker has removed it
        assert {name: version[name] for name in BY_WORDS} == BY_WORDS
    assert index == {
        "searched": {"model": "words-64", "dimensions": DIMENSIONS, "chunking": CHUNKING_VERSION},
        "building": None,
    }
    assert state(api, upload)["index"] == {"model": "words-64", "dimensions": DIMENSIONS, "chunking": CHUNKING_VERSION}


def test_a_build_is_requested_and_done_by_workers_of_rq(
    api: httpx.Client, settings: Settings, by_meaning: Settings, pdf: Path
) -> None:
    upload = uploaded(api, pdf)
    work(settings)
    accepted = api.post("/uploads/reindex")
    assert accepted.status_code == 202
    assert accepted.json()["index"]["searched"]["model"] == "bm25"
    work(by_meaning)  # RQ's own worker: it begins the build, and runs its steps
    assert state(api, upload)["index"]["model"] == "words-64"
    assert api.get(f"/job-status/{accepted.json()['job_id']}").json()["status"] == "finished"


def test_a_failed_build_is_a_warning_without_names(
    api: httpx.Client, settings: Settings, by_meaning: Settings, stub: OpenAIStub
) -> None:
    uploaded(api, ("private name.txt", b"The lamp turns once in twelve seconds."))
    work(settings)
    stub.behaviour.refused_models.add("words-64")
    with worker_services(by_meaning) as services:
        building.begin_build(services)
        building.build_here(services, lambda _progress: None)
    ready = api.get("/ready").json()
    assert (ready["status"], ready["index"]["building"]["status"]) == ("degraded", "failed")
    [warning] = [one for one in ready["warnings"] if "new index" in one]
    assert "EMBEDDING_MODEL" in warning
    assert "private" not in str(ready)


def test_building_for_all_users_needs_an_admin(make_settings: MakeSettings, valkey_url: str) -> None:
    settings = make_settings(valkey_url=valkey_url, jwt_secret=SECRET, jwt_audience=AUDIENCE, jwt_issuer=ISSUER)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as api:
        for scopes, status in (("query", 403), ("query upload", 403), (f"{KeyScope.ADMIN}", 202)):
            reply = api.post("/uploads/reindex", headers=bearer(token("ada", scope=scopes)))
            assert reply.status_code == status, reply.text
