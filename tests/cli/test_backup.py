"""`main.py backup` and `restore`: what is copied while the service works, and what a restore leaves."""

from __future__ import annotations

import signal
import subprocess
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

import main
from api.uvicorn_protocol import uvicorn_options
from cli import backup_copy
from cli.audit import run_audit
from client.qdrant.transfer import read_points
from client.sql.database import Database
from client.sql.transfer import read_tables
from client.valkey import keys
from client.valkey.deployment import RESTORING
from client.valkey.transfer import take_snapshot
from queues.wiring import establish_deployment
from server import create_app
from settings import Settings
from tests.api.test_uploads import post, uploaded
from tests.cli.test_main import service, upload
from tests.conftest import MakeSettings
from tests.queues.test_chat import answer, variables
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import PYTHON, ROOT, environment, refused, wait_until
from tests.support.qdrant_server import QdrantServer
from tests.support.servers import empty_database, s3_location
from tests.support.workers import work, worker_services

Run = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of main.py in this process, with settings."""

    def run(settings: Settings, *arguments: object) -> int:
        for name, value in variables(settings).items():
            monkeypatch.setenv(name, value)
        for name in ("database_url", "file_store_url", "qdrant_url", "aws_endpoint_url"):
            monkeypatch.setenv(name.upper(), str(getattr(settings, name) or ""))
        for name in ("aws_access_key_id", "aws_secret_access_key"):
            secret = getattr(settings, name)
            monkeypatch.setenv(name.upper(), secret.get_secret_value() if secret else "")
        return main.main([str(argument) for argument in arguments])

    return run


def contents(settings: Settings, valkey: Redis) -> dict[str, Any]:
    """Return all that a deployment stores, in a form that is the same in every store."""
    with worker_services(settings) as services, closing(Database(settings)) as database:
        with database.snapshot() as connection:
            rows = {name: sorted(lines) for name, lines in read_tables(connection)}
        names = services.index.collections.names()
        engines = {name: services.index.collections.engine(name) for name in names}
        points = {
            point.id: (name, point.payload, {key: _numbers(vector) for key, vector in point.vectors.items()})
            for name, engine in engines.items()
            for page in read_points(engine)
            for point in page
        }
        files = {name: b"".join(services.files.read(name)) for name, _ in services.files.all()}
    snapshot = take_snapshot(valkey)
    records = [*snapshot.records, *(record for batch in snapshot.read_others(valkey) for record in batch)]
    # Processes add to their counts whenever they like.
    wanted = (record for record in records if record.name != keys.COUNTS.encode())
    stored = {record.name: (record.kind, sorted(record.content)) for record in wanted}
    return {"rows": rows, "points": points, "files": files, "keys": stored}


def _numbers(vector: Any) -> list[float]:
    sparse = zip(vector.indices, vector.values, strict=True) if hasattr(vector, "indices") else None
    return [round(number, 5) for _, number in sorted(sparse)] if sparse else [round(number, 5) for number in vector]


@contextmanager
def api_of(settings: Settings) -> Iterator[httpx.Client]:
    """Run an API for the block: no API may run during a restore."""
    with (
        serving(create_app(settings), **uvicorn_options(settings)) as url,
        httpx.Client(base_url=url, timeout=60) as api,
    ):
        yield api


def filled(settings: Settings, pdf: Path) -> None:
    """Fill a deployment through an API."""
    with api_of(settings) as api:
        fill(api, settings, pdf)


def fill(api: httpx.Client, settings: Settings, pdf: Path) -> str:
    """Make something of each kind: documents, jobs that have ended and that wait, conversations, keys, webhooks."""
    with worker_services(settings) as services, Redis.from_url(settings.queue_url) as valkey:
        establish_deployment(services, valkey)
    upload_id = uploaded(api, pdf)
    uploaded(api, ("broken.pdf", b"%PDF-1.4 is broken"))
    api.post("/webhooks", json={"url": "https://receiver.example/hook"})
    api.post("/chat", json={"query": "When was it built?", "conversation_id": "c1", "metadata": {"a": 1}})
    work(settings)
    api.post("/chat", json={"query": "How far is the lamp seen?", "conversation_id": "c1"})
    api.post("/chat/batch", json={"questions": [{"query": "Who built it?"}, {"query": "What does it cost?"}]})
    post(api, ("notes.txt", b"The notes wait to be indexed."))
    return upload_id


@pytest.mark.parametrize("name", ["folder", "b.tar", "b.tar.gz", "b.tar.zst"])
def test_a_restored_deployment_is_the_one_that_was_copied(
    name: str, settings: Settings, valkey: Redis, pdf: Path, tmp_path: Path, command: Run
) -> None:
    filled(settings, pdf)
    before, target = contents(settings, valkey), tmp_path / "backups" / name
    assert command(settings, "backup", target) == 0
    assert contents(settings, valkey) == before
    paths = [target, *target.rglob("*")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths)
    assert [path.name for path in target.parent.iterdir()] == [name]
    valkey.flushall()
    again = settings.model_copy(update={"data_dir": tmp_path / "again"})
    assert command(again, "restore", target) == 0
    assert contents(again, valkey) == before
    assert run_audit(again, url=settings.queue_url, repair=True, delete=True) == []
    work(again)
    with worker_services(again) as services:
        assert sorted(each.status for each in services.uploads.all()) == ["failed", "ready", "ready"]
    assert not valkey.llen(keys.queue("rag_queries"))


def test_a_deployment_moves_from_the_embedded_engines_to_servers_and_back(
    settings: Settings,
    make_settings: MakeSettings,
    valkey: Redis,
    pdf: Path,
    tmp_path: Path,
    command: Run,
    postgres_url: str,
    s3_url: str,
) -> None:
    again = make_settings(data_dir=tmp_path / "again", valkey_url=settings.queue_url)  # before `command` sets variables
    filled(settings, pdf)
    before = contents(settings, valkey)
    assert command(settings, "backup", tmp_path / "one.tar") == 0
    valkey.flushall()
    (tmp_path / "server").mkdir()
    qdrant = QdrantServer(tmp_path / "server")
    use = s3_location(s3_url) | {"database_url": empty_database(postgres_url), "qdrant_url": qdrant.url}
    servers = make_settings(data_dir=tmp_path / "servers", valkey_url=settings.queue_url, **use)
    with qdrant.running():
        assert command(servers, "restore", tmp_path / "one.tar") == 0
        assert contents(servers, valkey) == before
        assert run_audit(servers, url=settings.queue_url, repair=True, delete=True) == []
        assert command(servers, "backup", tmp_path / "two.tar") == 0
    valkey.flushall()
    assert command(again, "restore", tmp_path / "two.tar") == 0
    assert contents(again, valkey) == before


@pytest.fixture(params=["embedded", "server"])
def copied(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a deployment on either engine."""
    if request.param == "embedded":
        yield settings
        return
    (tmp_path / "server").mkdir()
    qdrant = QdrantServer(tmp_path / "server")
    with qdrant.running():
        yield settings.model_copy(update={"qdrant_url": qdrant.url})


def test_what_changes_while_it_is_copied_is_copied_as_it_is_then(
    copied: Settings, valkey: Redis, pdf: Path, tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_of(copied) as api:
        fill(api, copied, pdf)
        deleted, reindexed, brief = (uploaded(api, (f"{n}.txt", f"Lamp {n} turns.".encode())) for n in range(3))
        work(copied)
        job = api.post("/chat", json={"query": "Which lamp turns?"}).json()["job_id"]
        made = dict.fromkeys(("before the moment", "in the moment", "after the moment"), 0)

        def change(when: str) -> None:
            made[when] += 1
            if when == "before the moment" and made[when] == 1:
                uploaded(api, ("new.txt", b"A new lamp."))
                api.delete(f"/uploads/{deleted}")
                api.post(f"/uploads/{reindexed}/reindex")
                work(copied)
            if when == "in the moment" and made[when] == 1:  # after the jobs were read, and before the rows are
                uploaded(api, ("late.txt", b"It came late."))
            if when == "after the moment" and made[when] == 2:  # the first are the files that are copied at the start
                api.delete(f"/uploads/{brief}")
                work(copied)

        def call_after(name: str, when: str) -> None:
            call = getattr(backup_copy.BackupCopy, name)

            def changed_first(*given: Any) -> Any:
                change(when)
                return call(*given)

            monkeypatch.setattr(backup_copy.BackupCopy, name, changed_first)

        call_after("_freeze", "before the moment")
        call_after("_copy_files", "after the moment")

        def read_then_change(connection: Redis) -> Any:
            snapshot = take_snapshot(connection)
            change("in the moment")
            return snapshot

        monkeypatch.setattr(backup_copy, "take_snapshot", read_then_change)
        assert command(copied, "backup", tmp_path / "b.tar") == 0
    assert made["in the moment"] > 1
    before = contents(copied, valkey)
    again = restored(copied, valkey, tmp_path, command)
    after = contents(again, valkey) | {"keys": before["keys"]}  # the API went on with those of webhooks until it ended
    assert after == before
    assert run_audit(again, url=copied.queue_url, repair=True, delete=True) == []
    with api_of(again) as api:
        assert api.get(f"/job-status/{job}").json()["status"] == "finished"


def restored(settings: Settings, valkey: Redis, tmp_path: Path, command: Run) -> Settings:
    """Restore a backup into a new deployment whose engines are embedded, on the same Valkey; return its settings."""
    valkey.flushall()
    again = settings.model_copy(update={"data_dir": tmp_path / "again", "qdrant_url": None})
    assert command(again, "restore", tmp_path / "b.tar") == 0
    return again


def test_a_file_that_goes_before_it_is_copied_is_not_missed(
    copied: Settings,
    valkey: Redis,
    pdf: Path,
    tmp_path: Path,
    command: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with api_of(copied) as api:
        fill(api, copied, pdf)
        brief: list[str] = []
        freeze, copy_files = backup_copy.BackupCopy._freeze, backup_copy.BackupCopy._copy_files

        def upload_then_freeze(copy: backup_copy.BackupCopy, *given: Any) -> Any:
            if not brief:
                brief.append(uploaded(api, ("brief.txt", b"A brief note.")))
                work(copied)
            return freeze(copy, *given)

        def delete_then_copy(copy: backup_copy.BackupCopy, *given: Any) -> Any:
            if len(brief) == 1:
                api.delete(f"/uploads/{brief[0]}")
                work(copied)
                brief.append("deleted")
            return copy_files(copy, *given)

        monkeypatch.setattr(backup_copy.BackupCopy, "_freeze", upload_then_freeze)
        monkeypatch.setattr(backup_copy.BackupCopy, "_copy_files", delete_then_copy)
        assert command(copied, "backup", tmp_path / "b.tar") == 0
    assert brief[1:] == ["deleted"]
    assert "warning" not in capsys.readouterr().out
    before = contents(copied, valkey)
    again = restored(copied, valkey, tmp_path, command)
    assert contents(again, valkey)["rows"] == before["rows"]
    assert run_audit(again, url=copied.queue_url, repair=True, delete=True) == []


def test_a_backup_under_load_is_restored_whole(tmp_path: Path, pdf: Path, stub: OpenAIStub) -> None:
    """Questions are asked and documents sent while a service, all of whose engines are embedded, is copied."""
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
    target, stop = tmp_path / "b.tar.zst", threading.Event()
    with service(tmp_path, **use) as started:
        upload(pdf, started.api)
        asked = [answer(started.api)["job_id"]]

        def load() -> None:
            with httpx.Client(base_url=started.api.base_url, timeout=30) as api:
                while not stop.is_set():
                    api.post("/uploads", files={"file": ("note.txt", f"Note {uuid.uuid4()} on the lamp.".encode())})
                    answer(api)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            done = _command("backup", str(target), DATA_DIR=str(started.data_dir), **use)
        finally:
            stop.set()
            thread.join(60)
        assert done.returncode == 0, done.stderr
    embedded = len([call for call in stub.behaviour.calls if "input" in call])
    again = {"DATA_DIR": str(tmp_path / "again" / "data"), **use}
    done = _command("restore", str(target), **again)
    assert done.returncode == 0, done.stderr
    with service(tmp_path / "again", **use) as restored:
        wait_until(lambda: _unfinished(restored.api) == 0, seconds=60, what="the end of the indexing")
        found = _command("audit", "--repair", **again)
        assert found.stdout.splitlines()[-1] == "0 found", found.stdout
        assert "1887" in restored.api.get(f"/result/{asked[0]}").json()["result"]
        assert "1887" in answer(restored.api)["result"]
        uploads = restored.api.get("/uploads").json()["uploads"]
        assert {each["status"] for each in uploads} == {"ready"}
    late = len([call for call in stub.behaviour.calls if "input" in call]) - embedded
    assert late <= 5, "texts were embedded again"


def _unfinished(api: httpx.Client) -> int:
    uploads = api.get("/uploads").json()["uploads"]
    return sum(each["status"] in {"queued", "processing"} for each in uploads)


def _command(*arguments: str, **use: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "main.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(**use), capture_output=True, text=True, check=False)


def test_a_target_that_holds_data_is_replaced_only_by_force(
    settings: Settings, valkey: Redis, pdf: Path, tmp_path: Path, command: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(settings, pdf)
    before, target = contents(settings, valkey), tmp_path / "b.tar"
    assert command(settings, "backup", target) == 0
    assert command(settings, "backup", target) == 2
    assert "exists already" in capsys.readouterr().err
    with api_of(settings) as api:
        newer = uploaded(api, ("newer.txt", b"It came after the backup."))
    assert command(settings, "restore", target) == 2
    assert "--force" in capsys.readouterr().err
    with worker_services(settings) as services:
        assert services.uploads.get(newer)
    assert command(settings, "restore", target, "--force") == 0
    assert contents(settings, valkey) == before


def _flip(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    with tarfile.open(backup) as tar:
        place = next(member for member in tar if member.name.startswith("points/")).offset_data
    content[place + 40] ^= 1
    backup.write_bytes(content)


def _cut(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])


def _without_manifest(backup: Path) -> None:
    whole = backup.with_name("whole.tar")
    backup.rename(whole)
    with tarfile.open(whole) as source, tarfile.open(backup, "w") as target:
        for member in source.getmembers()[:-1]:
            target.addfile(member, source.extractfile(member))


@pytest.mark.parametrize("spoil", [_flip, _cut, _without_manifest])
def test_a_damaged_backup_changes_nothing(
    spoil: Callable[[Path], None], settings: Settings, valkey: Redis, pdf: Path, tmp_path: Path,
    command: Run, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    filled(settings, pdf)
    before, target = contents(settings, valkey), tmp_path / "b.tar"
    assert command(settings, "backup", target) == 0
    spoil(target)
    assert command(settings, "restore", target, "--force") == 2
    assert "take another" in capsys.readouterr().err
    assert contents(settings, valkey) == before


@contextmanager
def _started(*arguments: str, **use: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([PYTHON, "main.py", *arguments], cwd=ROOT, env=environment(**use)) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_restore_is_noticed_and_goes_on_when_it_is_run_again(
    settings: Settings, valkey: Redis, pdf: Path, tmp_path: Path, command: Run
) -> None:
    filled(settings, pdf)
    before, target = contents(settings, valkey), tmp_path / "b.tar"
    assert command(settings, "backup", target) == 0
    valkey.flushall()
    use = {"DATA_DIR": str(tmp_path / "again"), "VALKEY_URL": settings.queue_url}
    with _started("restore", str(target), **use) as restoring:
        wait_until(lambda: valkey.get(keys.DEPLOYMENT) == RESTORING.encode(), what="the restore")
        restoring.send_signal(signal.SIGKILL)
    cut_short = valkey.get(keys.DEPLOYMENT) == RESTORING.encode()
    if cut_short:  # else the restore was faster than the kill
        for part in ("api", "worker"):
            assert "its restore was cut short" in refused(part, **use)
    again = settings.model_copy(update={"data_dir": tmp_path / "again"})
    assert command(again, "restore", target, *([] if cut_short else ["--force"])) == 0
    assert contents(again, valkey) == before


def test_a_killed_backup_is_no_backup(settings: Settings, valkey: Redis, tmp_path: Path) -> None:
    with api_of(settings) as api:
        for number in range(3):
            uploaded(api, (f"{number}.txt", f"Lamp {number} turns. ".encode() * 20_000))
    target = tmp_path / "b.tar.gz"
    partial, use = tmp_path / "b.tar.gz.partial", {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": settings.queue_url}
    with _started("backup", str(target), **use) as copying:
        wait_until(partial.exists, what="the beginning of the backup")
        copying.send_signal(signal.SIGKILL)
    assert not target.exists()
    assert valkey.dbsize()
    done = _command("backup", str(target), **use)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} >= {"b.tar.gz"}
    assert not partial.exists()
