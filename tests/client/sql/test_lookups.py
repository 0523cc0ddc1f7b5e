"""What questions read of the list of uploads: each look-up sees every change committed before, by whatever process."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import datetime
from multiprocessing import get_context

import pytest
from sqlalchemy import text

from client.sql import lookups
from client.sql.database import Database
from client.sql.uploads import UploadRepository
from errors import UploadsUnavailable
from schemas import Upload, UploadStatus
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.processes import PYTHON, ROOT, environment
from tests.support.servers import empty_database
from tests.support.uploads import CHANGES, change, change_from_here, new_upload

USERS = ("ann", "bob")

Versions = dict[str, frozenset[tuple[str, datetime]]]


@pytest.fixture(scope="module")
def other_process() -> Iterator[ProcessPoolExecutor]:
    """A process that can change uploads."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def ready(uploads: UploadRepository, user: str) -> str:
    """Add an upload that is ready; return its id."""
    upload = uploads.add(new_upload(user_id=user), unique=False)
    assert uploads.finish(upload.upload_id, job_id="job", pages=1, chunks=1) is not None
    return upload.upload_id


def test_a_lookup_sees_every_change(
    database_settings: Settings, uploads: UploadRepository, other_process: ProcessPoolExecutor
) -> None:
    """200 changes by the reader itself, by another connection of its process, or by another process."""
    chance = random.Random(11)
    versions: dict[str | None, Versions] = {user: {} for user in (*USERS, None)}
    with closing(UploadRepository(Database(database_settings))) as second:
        rows: list[Upload] = []
        for _ in range(200):
            name = chance.choice([*CHANGES, "add", "finish", "finish", "finish"]) if rows else "add"
            upload = new_upload(user_id=chance.choice(USERS)) if name == "add" else chance.choice(rows)
            match chance.randrange(3):
                case 0:
                    change(uploads, name, upload)
                case 1:
                    change(second, name, upload)
                case _:
                    other_process.submit(change_from_here, database_settings, name, upload).result(60)
            rows = sorted(second.all(), key=lambda row: row.created_at)  # the same in every run
            for user in (*USERS, None):
                check(uploads, user, rows, versions[user])
                check(second, user, rows, versions[user])
    assert min(len(seen) for seen in versions.values()) > 10, "searchable uploads have changed"


def check(reader: UploadRepository, user: str | None, rows: list[Upload], versions: Versions) -> None:
    """Compare a user's look-ups with the rows. `versions`: what was searchable with each version seen earlier."""
    own = [row for row in rows if user in {None, row.user_id}]
    deleting = {row.upload_id for row in own if row.status is UploadStatus.DELETING}
    searchable = {row.upload_id: row.indexed_at for row in own if row.indexed_at and row.upload_id not in deleting}
    begun = {row.upload_id for row in own if row.status is UploadStatus.PROCESSING and row.indexed_at is None}
    assert set(reader.hidden_ids(user)) == deleting | begun
    assert reader.searchable(user, [row.upload_id for row in rows]) == searchable.keys()
    current = frozenset(searchable.items())
    assert versions.setdefault(reader.searchable_version(user), current) == current


def test_threads_never_find_what_was_deleted_before(database_settings: Settings, uploads: UploadRepository) -> None:
    ids = [ready(uploads, "ann") for _ in range(60)]
    deleted: list[str] = []
    failures: list[object] = []
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                before = set(deleted)
                count = int(uploads.searchable_version("ann").partition("/")[0])
                hidden, found = set(uploads.hidden_ids("ann")), uploads.searchable("ann", ids)
                if found & before or not before <= hidden or count > len(ids) - len(before):
                    failures.append((before, count, hidden, found))
        except BaseException as error:  # noqa: BLE001  shown below
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(12)]  # more than there are connections
    for reader in readers:
        reader.start()
    with closing(UploadRepository(Database(database_settings))) as second:
        for number, upload_id in enumerate(ids):
            (uploads, second)[number % 2].mark_deleting(upload_id, user_id="ann", job_id="delete")
            deleted.append(upload_id)
    ended.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert uploads.searchable_version("ann").startswith("0/")


def test_many_users_are_not_remembered_for_ever(uploads: UploadRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_REMEMBERED", 3)
    users = [f"user {number}" for number in range(8)]
    for number, user in enumerate(users):
        for _ in range(number):
            ready(uploads, user)
    for _ in range(2):
        assert [uploads.searchable_version(user).partition("/")[0] for user in users] == list("01234567")
        assert len(uploads._database.look_up(lambda lookup: lookup.remembered())) <= 3


def test_indexes_serve_the_lookups(make_settings: MakeSettings) -> None:
    """Each statement names its index, so that a look-up does not read all uploads of a user."""
    settings = make_settings()
    statements: list[str] = []
    with closing(UploadRepository(Database(settings))) as uploads:
        uploads._database.look_up(lambda lookup: lookup._connection.set_trace_callback(statements.append))
        uploads.hidden_ids("ann")
        uploads.searchable_version("ann")
        uploads.searchable("ann", [f"upload {number}" for number in range(20)])
    reads = [statement for statement in statements if statement.startswith("SELECT")]
    with closing(sqlite3.connect(settings.data_dir / "uploads.db")) as connection:
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {read}").fetchall()[0][3] for read in reads]
    expected = ["INDEX uploads_hidden", "INDEX uploads_pending", "index_versions", "INDEX uploads_searchable"]
    expected += ["autoindex_uploads_1 (upload_id=?)"]
    assert len(plans) == len(expected)
    assert [index for index, plan in zip(expected, plans, strict=True) if index not in plan] == [], plans


FORKING = """
import os
from client.sql.database import Database
from client.sql.uploads import UploadRepository
from settings import load_settings

uploads = UploadRepository(Database(load_settings()))
connection = lambda: uploads._database.look_up(lambda lookup: lookup._connection)
assert uploads.searchable_version("ann").startswith("1/")
inherited = connection()
child = os.fork()
if child == 0:
    assert connection() is not inherited
    [upload] = uploads.all()
    uploads.mark_deleting(upload.upload_id, user_id=None, job_id="delete")
    assert uploads.hidden_ids("ann") == (upload.upload_id,)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert uploads.searchable_version("ann").startswith("0/")
assert connection() is inherited
uploads.close()
"""


def test_a_forked_process_has_its_own_connections(database_settings: Settings, uploads: UploadRepository) -> None:
    ready(uploads, "ann")
    variables = {"DATA_DIR": str(database_settings.data_dir), "DATABASE_URL": database_settings.database_url or ""}
    ran = subprocess.run(
        [PYTHON, "-c", FORKING], cwd=ROOT, env=environment(**variables), check=False, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_connections_that_the_server_closed_are_replaced(make_settings: MakeSettings, postgres_url: str) -> None:
    together = threading.Barrier(6)
    with (
        closing(Database(make_settings(database_url=empty_database(postgres_url)))) as database,
        closing(UploadRepository(Database(make_settings(database_url=postgres_url)))) as uploads,
    ):
        upload_id = ready(uploads, "ann")
        threads = [
            threading.Thread(target=uploads._database.look_up, args=[lambda _: together.wait(30)]) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.reading() as connection:
            others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            assert connection.execute(text(others)).scalar_one() >= 6
        assert uploads.searchable("ann", [upload_id]) == {upload_id}


def test_a_failed_lookup_is_a_503(database_settings: Settings, uploads: UploadRepository) -> None:
    assert uploads.hidden_ids("ann") == ()
    with closing(Database(database_settings)) as database, database.writing() as connection:
        connection.execute(text("DROP TABLE uploads"))
    with pytest.raises(UploadsUnavailable) as caught:
        uploads.hidden_ids("ann")
    assert caught.value.status == 503
    assert "SELECT" not in caught.value.detail
