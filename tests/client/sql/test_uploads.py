"""The table of uploads and its migrations: one contract for SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from client.sql import engines as engines_module
from client.sql.database import REVISION, Database, UploadRow
from client.sql.engines import MIGRATIONS
from client.sql.uploads import UploadRepository
from errors import SettingsError, UploadsUnavailable
from schemas import Upload, UploadStatus
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.uploads import new_upload


def test_an_upload_is_returned_as_it_was_added(uploads: UploadRepository) -> None:
    upload = new_upload()
    assert uploads.add(upload, unique=True) == upload
    assert uploads.get(upload.upload_id) == upload
    assert uploads.get(upload.upload_id, user_id="another") is None


def test_unique_content_is_added_once_per_user(uploads: UploadRepository) -> None:
    upload = uploads.add(new_upload(), unique=True)
    assert uploads.add(new_upload(), unique=True) == upload
    assert uploads.add(new_upload(user_id="another"), unique=True).user_id == "another"
    assert uploads.add(new_upload(), unique=False) != upload
    assert len(list(uploads.all())) == 3
    uploads.mark_deleting(upload.upload_id, user_id="local", job_id="delete")


def test_eight_threads_that_add_the_same_content_add_one_upload(uploads: UploadRepository) -> None:
    added: list[str] = []
    threads = [
        threading.Thread(target=lambda: added.append(uploads.add(new_upload(), unique=True).upload_id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(added) == 8
    assert len(set(added)) == 1


def test_a_job_that_was_replaced_changes_nothing(uploads: UploadRepository) -> None:
    upload = uploads.add(new_upload(), unique=True)
    started = uploads.start(upload.upload_id, job_id="job")
    assert started is not None
    assert started.status is UploadStatus.PROCESSING
    assert uploads.requeue(started, job_id="next") is not None
    assert uploads.requeue(started, job_id="another") is None
    assert uploads.record_progress(upload.upload_id, job_id="job", pages_done=1, pages=2) is None
    assert uploads.finish(upload.upload_id, job_id="job", pages=2, chunks=2) is None
    assert uploads.fail(upload.upload_id, job_id="job", reason="broken", error="…") is None
    assert uploads.finish(upload.upload_id, job_id="next", pages=2, chunks=2) is not None
    assert uploads.searchable("local", [upload.upload_id, "other"]) == {upload.upload_id}
    marked = uploads.mark_deleting(upload.upload_id, user_id="local", job_id="delete")
    assert marked is not None
    assert uploads.searchable("local", [upload.upload_id]) == set()
    assert uploads.hidden_ids("local") == (upload.upload_id,)
    assert uploads.finish(upload.upload_id, job_id="delete", pages=2, chunks=2) is None
    uploads.finish_delete(upload.upload_id)
    assert uploads.get(upload.upload_id) is None


def test_an_upload_that_has_changed_is_not_marked_as_failed(uploads: UploadRepository) -> None:
    """The job finishes after its row was read and before the row is changed."""
    upload = uploads.add(new_upload(), unique=True)
    started = uploads.start(upload.upload_id, job_id="job")
    assert started is not None
    assert uploads.finish(upload.upload_id, job_id="job", pages=1, chunks=1) is not None
    assert uploads.fail_if_unchanged(started, reason="worker_died", error="…") is None
    again = uploads.start(upload.upload_id, job_id="job")
    assert again is not None
    failed = uploads.fail_if_unchanged(again, reason="worker_died", error="…")
    assert failed is not None
    assert (failed.status, failed.reason) == (UploadStatus.FAILED, "worker_died")


def test_pages_show_each_upload_once_even_at_equal_times(uploads: UploadRepository) -> None:
    moment = datetime(2026, 1, 1, 12, 0, 0, 123_456, UTC)
    ids = [
        uploads.add(new_upload(created_at=moment + timedelta(microseconds=n // 3)), unique=False).upload_id
        for n in range(10)
    ]
    seen: list[Upload] = []
    cursor: str | None = None
    while True:
        page, cursor = uploads.page("local", limit=3, cursor=cursor)
        seen += page
        if cursor is None:
            break
    assert sorted(upload.upload_id for upload in seen) == sorted(ids)
    assert [upload.created_at for upload in seen] == sorted((upload.created_at for upload in seen), reverse=True)


def test_the_tables_can_be_created_by_several_threads_at_once(database_settings: Settings) -> None:
    failures: list[BaseException] = []

    def migrate() -> None:
        database = Database(database_settings)
        try:
            database.migrate()
        except BaseException as error:  # noqa: BLE001  shown below
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=migrate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_newer_database_is_refused(database_settings: Settings) -> None:
    database = Database(database_settings)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    again = Database(database_settings)
    with pytest.raises(SettingsError, match="newer version"):
        again.migrate()
    again.close()


def test_the_migrated_tables_match_the_row_classes(database_settings: Settings) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == REVISION
    database = Database(database_settings)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), UploadRow.metadata) == []
    database.close()


def test_a_database_that_is_away_is_a_503(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_module, "CONNECT_SECONDS", 1)
    away = UploadRepository(Database(make_settings(database_url="postgresql://rag:hush@127.0.0.1:1/x")))
    with pytest.raises(UploadsUnavailable) as caught:
        away.get("x")
    assert caught.value.status == 503
    assert "hush" not in caught.value.detail
