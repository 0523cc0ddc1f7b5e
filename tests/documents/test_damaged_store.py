"""A damaged, emptied or lost folder of the embedded Qdrant: what users and operators see, and how it is mended."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import httpx
import pytest
from redis import Redis

from queues.store_check import StoreCheck
from settings import Settings
from tests.api.test_uploads import state, uploaded
from tests.client.qdrant.test_damage import How, collection, damage
from tests.documents.test_repairs import audit
from tests.queues.test_chat import variables
from tests.support.processes import PYTHON, run, wait_until
from tests.support.workers import work, worker_services

QUESTION = "When was the lighthouse built?"


@pytest.fixture
def upload(api: httpx.Client, settings: Settings, pdf: Path) -> str:
    """An upload that is ready, whose store is closed."""
    added = uploaded(api, pdf)
    work(settings)
    assert state(api, added)["status"] == "ready"
    uploaded(api, ("other.txt", b"What the engine wrote last is in its log, from which it is written again."))
    work(settings)
    return added


def ask(api: httpx.Client, settings: Settings) -> dict[str, str]:
    """Ask a question, let it end, and return its job."""
    job = api.post("/chat", json={"query": QUESTION, "cache": False}).json()["job_id"]
    work(settings)
    view: dict[str, str] = api.get(f"/job-status/{job}").json()
    return view


def answer(api: httpx.Client, settings: Settings) -> str:
    job = ask(api, settings)["job_id"]
    return str(api.get(f"/result/{job}").json()["result"])


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ("segments/*/segment.json", "remove"),  # the engine raises when it opens the folder
        ("segments/*/payload_index/*-null/is_null/status.dat", "empty"),  # it panics
        ("segments/*/payload_storage/page_0.dat", "empty"),  # it opens the folder, and cannot read a point
    ],
)
def test_a_damaged_store_is_named_and_repaired(
    api: httpx.Client, settings: Settings, upload: str, pattern: str, how: How
) -> None:
    damage(next(collection(settings.qdrant_dir).glob(pattern)), how)
    assert "is damaged: run" in ask(api, settings)["error"]
    seen = api.get("/ready").json()
    assert seen["status"] == "degraded"
    assert seen["parts"]["vector_store"] == "damaged"
    assert any("audit --repair" in warning for warning in seen["warnings"])
    during = uploaded(api, ("during.txt", b"The lamp was replaced in 1955."))
    work(settings)
    assert state(api, during)["status"] == "failed"
    assert "audit --repair" in state(api, during)["error"]
    for flags in ((), ("--dry-run",)):
        assert_audit_names_the_damage(settings, *flags)
    found = audit(settings, "--repair")
    assert "set aside as" in found[0]
    assert Path(found[0].rpartition("set aside as ")[2]).is_dir()
    assert {one for one in (upload, during) if any(one in line for line in found)} == {upload, during}
    work(settings)
    assert [state(api, one)["status"] for one in (upload, during)] == ["ready", "ready"]
    assert "1887" in answer(api, settings)
    assert api.get("/ready").json()["parts"]["vector_store"] == "ready"
    assert audit(settings) == []


def assert_audit_names_the_damage(settings: Settings, *flags: str) -> None:
    done = run([PYTHON, "main.py", "audit", *flags], **variables(settings))
    assert done.returncode == 2
    assert "error: the embedded vector store in" in done.stderr
    assert "Traceback" not in done.stderr


def lacks_chunks(api: httpx.Client) -> bool:
    return any("holds fewer chunks of " in warning for warning in api.get("/ready").json()["warnings"])


@pytest.mark.parametrize("lost", ["qdrant", "collection", "complete", "segments/*/mutable_id_tracker.mappings"])
def test_a_store_that_lost_points_is_noticed_and_filled_again(
    api: httpx.Client,
    settings: Settings,
    valkey: Redis,
    upload: str,
    lost: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = settings.qdrant_dir
    if lost in {"qdrant", "collection"}:
        shutil.rmtree(folder if lost == "qdrant" else collection(folder))
    else:
        damage(next(collection(folder).glob(lost)), "remove")
    with (
        worker_services(settings) as services,
        caplog.at_level(logging.ERROR),
        StoreCheck(services, valkey, again_seconds=0.1),
    ):
        wait_until(lambda: lacks_chunks(api), what="the warning")
        assert upload in caplog.text
        assert any(upload in line and "indexed again" in line for line in audit(settings))
        work(settings)
        wait_until(lambda: not lacks_chunks(api), what="the end of the warning")
    assert "1887" in answer(api, settings)


def test_a_file_in_place_of_the_store_is_named(api: httpx.Client, settings: Settings) -> None:
    settings.qdrant_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.qdrant_dir.write_text("not a folder")
    seen = api.get("/ready").json()
    assert seen["parts"]["vector_store"] == "refused"
    assert any("check its owner and its permissions" in warning for warning in seen["warnings"])
