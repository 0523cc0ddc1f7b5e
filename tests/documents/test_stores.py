"""The list of uploads on SQLite and PostgreSQL, the file store in a folder and on S3: the same contract for each."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from client.files.store import FileStore, open_file_store
from client.sql import database as database_module
from client.sql.database import MIGRATIONS, REVISION, Database, UploadRow
from client.sql.uploads import UploadRepository
from errors import FileMissing, FilesUnavailable, SettingsError, UploadsUnavailable
from schemas import Upload, UploadStatus
from server import create_app
from settings import Settings
from tests.api.test_uploads import ask, state, uploaded
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.servers import BUCKET, S3_KEYS, postgres, s3
from tests.support.workers import work

MakeList = Callable[[], UploadRepository]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    with s3() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, make_settings: MakeSettings) -> Settings:
    """Settings with an empty database."""
    return make_settings(database_url=empty_postgres(request) if request.param == "postgresql" else None)


def empty_postgres(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url")
    engine = create_engine("postgresql+psycopg" + url.removeprefix("postgresql"))
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS uploads, api_keys, alembic_version"))
    engine.dispose()
    return url


@pytest.fixture
def uploads(database_settings: Settings) -> Iterator[UploadRepository]:
    listed = UploadRepository(Database(database_settings))
    yield listed
    listed.close()


def an_upload(**values: Any) -> Upload:
    now = datetime.now(UTC)
    fields = {
        "upload_id": str(uuid.uuid4()),
        "user_id": "local",
        "file_id": str(uuid.uuid4()),
        "name": "größe 📄.pdf",
        "media_type": "application/pdf",
        "bytes": 5_000_000_000,
        "sha256": "0" * 64,
        "status": UploadStatus.QUEUED,
        "job_id": "job",
        "created_at": now,
        "updated_at": now,
    }
    return Upload.model_validate(fields | values)


def test_an_upload_comes_back_as_it_was(uploads: UploadRepository) -> None:
    one = an_upload()
    assert uploads.add(one, unique=True) == one
    assert uploads.get(one.upload_id) == one
    assert uploads.get(one.upload_id, user_id="another") is None


def test_the_same_content_is_found_once_a_user(uploads: UploadRepository) -> None:
    one = uploads.add(an_upload(), unique=True)
    assert uploads.add(an_upload(), unique=True) == one
    assert uploads.add(an_upload(user_id="another"), unique=True).user_id == "another"
    assert uploads.add(an_upload(), unique=False) != one
    assert len(list(uploads.all())) == 3
    uploads.mark_deleting(one.upload_id, user_id="local", job_id="delete")


def test_many_at_once_make_one(uploads: UploadRepository) -> None:
    added: list[str] = []
    threads = [
        threading.Thread(target=lambda: added.append(uploads.add(an_upload(), unique=True).upload_id)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(added) == 8
    assert len(set(added)) == 1


def test_a_job_that_lost_its_upload_changes_nothing(uploads: UploadRepository) -> None:
    one = uploads.add(an_upload(), unique=True)
    begun = uploads.start(one.upload_id, job_id="job")
    assert begun is not None
    assert begun.status is UploadStatus.PROCESSING
    assert uploads.requeue(begun, job_id="next") is not None
    assert uploads.requeue(begun, job_id="another") is None
    assert uploads.record_progress(one.upload_id, job_id="job", pages_done=1, pages=2) is None
    assert uploads.finish(one.upload_id, job_id="job", pages=2, chunks=2) is None
    assert uploads.fail(one.upload_id, job_id="job", reason="broken", error="…") is None
    assert uploads.finish(one.upload_id, job_id="next", pages=2, chunks=2) is not None
    assert uploads.searchable("local", [one.upload_id, "other"]) == {one.upload_id}
    marked = uploads.mark_deleting(one.upload_id, user_id="local", job_id="delete")
    assert marked is not None
    assert uploads.searchable("local", [one.upload_id]) == set()
    assert uploads.hidden_ids("local") == (one.upload_id,)
    assert uploads.finish(one.upload_id, job_id="delete", pages=2, chunks=2) is None
    uploads.finish_delete(one.upload_id)
    assert uploads.get(one.upload_id) is None


def test_only_an_upload_that_did_not_change_is_given_up(uploads: UploadRepository) -> None:
    """As when a job ends well between the look at its row and the look at the job."""
    one = uploads.add(an_upload(), unique=True)
    begun = uploads.start(one.upload_id, job_id="job")
    assert begun is not None
    assert uploads.finish(one.upload_id, job_id="job", pages=1, chunks=1) is not None
    assert uploads.fail_if_unchanged(begun, reason="worker_died", error="…") is None
    again = uploads.start(one.upload_id, job_id="job")
    assert again is not None
    failed = uploads.fail_if_unchanged(again, reason="worker_died", error="…")
    assert failed is not None
    assert (failed.status, failed.reason) == (UploadStatus.FAILED, "worker_died")


def test_pages_hold_everything_once_also_at_the_same_moment(uploads: UploadRepository) -> None:
    moment = datetime(2026, 1, 1, 12, 0, 0, 123_456, UTC)
    ids = [
        uploads.add(an_upload(created_at=moment + timedelta(microseconds=n // 3)), unique=False).upload_id
        for n in range(10)
    ]
    seen: list[Upload] = []
    cursor: str | None = None
    while True:
        page, cursor = uploads.page("local", limit=3, cursor=cursor)
        seen += page
        if cursor is None:
            break
    assert sorted(one.upload_id for one in seen) == sorted(ids)
    assert [one.created_at for one in seen] == sorted((one.created_at for one in seen), reverse=True)


def test_several_processes_make_the_tables_at_once(database_settings: Settings) -> None:
    failed: list[BaseException] = []

    def migrate() -> None:
        database = Database(database_settings)
        try:
            database.migrate()
        except BaseException as error:  # noqa: BLE001  shown below
            failed.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=migrate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_newer_database_is_refused(database_settings: Settings) -> None:
    database = Database(database_settings)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    again = Database(database_settings)
    with pytest.raises(SettingsError, match="newer version"):
        again.migrate()
    again.close()


def test_the_tables_are_what_the_program_expects(database_settings: Settings) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == REVISION
    database = Database(database_settings)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), UploadRow.metadata) == []
    database.close()


def test_a_database_that_is_away_is_a_503(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "CONNECT_SECONDS", 1)
    away = UploadRepository(Database(make_settings(database_url="postgresql://rag:hush@127.0.0.1:1/x")))
    with pytest.raises(UploadsUnavailable) as caught:
        away.get("x")
    assert caught.value.status == 503
    assert "hush" not in caught.value.detail


@pytest.fixture(params=["folder", "s3"])
def files_settings(request: pytest.FixtureRequest, make_settings: MakeSettings) -> Settings:
    """Settings with an empty file store."""
    if request.param == "folder":
        return make_settings()
    return s3_settings(make_settings, request.getfixturevalue("s3_url"))


def s3_settings(make_settings: MakeSettings, url: str, **values: Any) -> Settings:
    place = f"s3://{BUCKET}/{uuid.uuid4()}"
    return make_settings(file_store_url=place, aws_endpoint_url=url, **S3_KEYS, **values)


@pytest.fixture
def files(files_settings: Settings) -> FileStore:
    return open_file_store(files_settings)


def test_a_file_comes_back_until_it_is_deleted(files: FileStore) -> None:
    chunks = [bytes([n]) * 1_000_000 for n in range(12)]  # several parts on S3
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    files.put(one, chunks)
    files.put(other, [])
    assert b"".join(files.read(one)) == b"".join(chunks)
    with files.local_path(one) as path:
        assert path.read_bytes() == b"".join(chunks)
    stored = dict(files.all())
    assert set(stored) == {one, other}
    assert abs((datetime.now(UTC) - stored[one]).total_seconds()) < 60
    files.delete(one)
    files.delete(one)
    with pytest.raises(FileMissing):
        files.read(one)
    with pytest.raises(FileMissing), files.local_path(one):
        pass
    assert set(dict(files.all())) == {other}


def test_a_file_is_there_wholly_or_not_at_all(files: FileStore) -> None:
    def cut_short() -> Iterator[bytes]:
        yield b"x" * 6_000_000
        raise ConnectionResetError("the sender is gone")

    with pytest.raises((ConnectionResetError, FilesUnavailable)):
        files.put(str(uuid.uuid4()), cut_short())
    assert list(files.all()) == []


def test_an_s3_server_that_is_away_is_a_503(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.files.store.S3_RETRY_TIMEOUT", timedelta(seconds=1))
    away = open_file_store(s3_settings(make_settings, "http://127.0.0.1:1"))
    with pytest.raises(FilesUnavailable) as caught:
        away.read("x")
    assert caught.value.status == 503


def test_the_whole_way_on_postgresql_and_s3(
    request: pytest.FixtureRequest, make_settings: MakeSettings, s3_url: str, valkey_url: str, pdf: Path
) -> None:
    settings = s3_settings(make_settings, s3_url, database_url=empty_postgres(request), valkey_url=valkey_url)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=20) as api:
        upload_id = uploaded(api, pdf)
        work(settings)
        assert state(api, upload_id)["status"] == "ready"
        assert "1887" in ask(api, settings, "When was the lighthouse built?")["result"]
        assert api.get(f"/uploads/{upload_id}/file").content == pdf.read_bytes()
        api.delete(f"/uploads/{upload_id}")
        work(settings)
        assert api.get(f"/uploads/{upload_id}").status_code == 404
    assert not settings.files_dir.exists()
    assert not (settings.data_dir / "uploads.db").exists()
    assert list(open_file_store(settings).all()) == []
