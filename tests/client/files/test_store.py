"""The file store: one contract for a folder and S3."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from client.files.store import FileStore, open_file_store
from errors import FileMissing, FilesUnavailable
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.servers import s3_location


@pytest.fixture(params=["folder", "s3"])
def files_settings(request: pytest.FixtureRequest, make_settings: MakeSettings) -> Settings:
    """Settings with an empty file store."""
    if request.param == "folder":
        return make_settings()
    return make_settings(**s3_location(request.getfixturevalue("s3_url")))


@pytest.fixture
def files(files_settings: Settings) -> FileStore:
    return open_file_store(files_settings)


def test_a_file_can_be_read_until_it_is_deleted(files: FileStore) -> None:
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


def test_a_file_that_breaks_off_is_not_stored(files: FileStore) -> None:
    def cut_short() -> Iterator[bytes]:
        yield b"x" * 6_000_000
        raise ConnectionResetError("the sender is gone")

    with pytest.raises((ConnectionResetError, FilesUnavailable)):
        files.put(str(uuid.uuid4()), cut_short())
    assert list(files.all()) == []


def test_a_folder_that_cannot_be_read_is_a_503(make_settings: MakeSettings) -> None:
    settings = make_settings()
    settings.files_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.files_dir.write_text("a file in its place")
    files = open_file_store(settings)

    def local_path() -> None:
        with files.local_path("x"):
            pass

    for read in (lambda: list(files.all()), lambda: files.read("x"), lambda: files.put("x", []), local_path):
        with pytest.raises(FilesUnavailable) as caught:
            read()
        assert type(caught.value) is FilesUnavailable


def test_an_s3_server_that_is_away_is_a_503(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.files.store.S3_RETRY_TIMEOUT", timedelta(seconds=1))
    away = open_file_store(make_settings(**s3_location("http://127.0.0.1:1")))
    with pytest.raises(FilesUnavailable) as caught:
        away.read("x")
    assert caught.value.status == 503
