"""The uploaded files, by file id: in a local folder, or in an S3 bucket through obstore."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import urlsplit

from errors import FileMissing, FilesUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Store

    from settings import Settings

CHUNK_BYTES = 1024 * 1024
# Ends the names of files that are being written.
PARTIAL_SUFFIX = ".partial"
S3_TIMEOUT = timedelta(seconds=30)
S3_RETRY_TIMEOUT = timedelta(seconds=60)
RETRY_AFTER_SECONDS = 5


class FileStore(Protocol):
    """Files by id. Safe for threads. Every method raises FilesUnavailable."""

    def put(self, file_id: str, chunks: Iterable[bytes]) -> None:
        """Store a whole file or, on an error, nothing. On return the file survives a crash."""

    def read(self, file_id: str) -> Iterator[bytes]:
        """Yield a file's bytes. Raises FileMissing in the call, not at the first byte."""

    def local_path(self, file_id: str) -> AbstractContextManager[Path]:
        """Yield a path under which this process can read the file. Raises FileMissing."""

    def delete(self, file_id: str) -> None:
        """Remove a file. Does nothing when the file is missing."""

    def all(self) -> Iterator[tuple[str, datetime]]:
        """Yield the id of every file and the time when it was stored."""


class LocalFileStore:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, file_id: str, chunks: Iterable[bytes]) -> None:
        partial = self._folder / f"{file_id}{PARTIAL_SUFFIX}"
        with _local_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self._folder / file_id)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def read(self, file_id: str) -> Iterator[bytes]:
        with _local_errors():
            file = (self._folder / file_id).open("rb")
        return _read_file(file)

    @contextmanager
    def local_path(self, file_id: str) -> Iterator[Path]:
        path = self._folder / file_id
        with _local_errors():
            path.stat()
        yield path

    def delete(self, file_id: str) -> None:
        with _local_errors():
            (self._folder / file_id).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, datetime]]:
        """As FileStore.all. Also yields files that a crash left half-written; `delete` takes their ids too."""
        paths: list[Path] = []
        with suppress(FileMissing), _local_errors():  # without any upload there is no folder
            paths = list(self._folder.iterdir())
        for path in paths:
            with suppress(FileMissing), _local_errors():
                stored_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield path.name, stored_at


class S3FileStore:
    """Files in an S3 bucket, or under a prefix of its keys."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def put(self, file_id: str, chunks: Iterable[bytes]) -> None:
        import obstore

        with _s3_errors():
            obstore.put(self._store, file_id, iter(chunks))

    def read(self, file_id: str) -> Iterator[bytes]:
        import obstore

        with _s3_errors():
            stream = obstore.get(self._store, file_id).stream(CHUNK_BYTES)
        return _read_stream(stream)

    @contextmanager
    def local_path(self, file_id: str) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(prefix="upload-") as file:
            for chunk in self.read(file_id):
                file.write(chunk)
            file.flush()
            yield Path(file.name)

    def delete(self, file_id: str) -> None:
        import obstore

        with suppress(FileMissing), _s3_errors():
            obstore.delete(self._store, file_id)

    def all(self) -> Iterator[tuple[str, datetime]]:
        import obstore

        with _s3_errors():
            for batch in obstore.list(self._store):
                for meta in batch:
                    yield meta["path"], meta["last_modified"]


def open_file_store(settings: Settings) -> FileStore:
    """Make the file store that the settings name. The store connects on its first use."""
    if settings.file_store_url is None:
        return LocalFileStore(settings.files_dir)
    from obstore.store import S3Store

    parts = urlsplit(settings.file_store_url)
    config: S3Config = {"region": settings.aws_region}
    client: ClientConfig = {"timeout": S3_TIMEOUT, "connect_timeout": timedelta(seconds=5)}
    if settings.aws_endpoint_url is not None:
        config["endpoint"] = settings.aws_endpoint_url
        client["allow_http"] = settings.aws_endpoint_url.startswith("http://")
    if settings.aws_access_key_id is not None and settings.aws_secret_access_key is not None:
        config["access_key_id"] = settings.aws_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.aws_secret_access_key.get_secret_value()
    retry: RetryConfig = {"max_retries": 3, "retry_timeout": S3_RETRY_TIMEOUT}
    prefix = parts.path.strip("/") or None
    return S3FileStore(S3Store(parts.netloc, prefix=prefix, config=config, client_options=client, retry_config=retry))


def _read_file(file: BinaryIO) -> Iterator[bytes]:
    with file, _local_errors():
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _read_stream(stream: Iterable[bytes]) -> Iterator[bytes]:
    with _s3_errors():
        for chunk in stream:
            yield bytes(chunk)


@contextmanager
def _local_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise file_missing() from None
    except OSError as error:
        raise FilesUnavailable(
            f"the folder of uploaded files failed: {error.strerror}", retry_after_seconds=RETRY_AFTER_SECONDS
        ) from None


@contextmanager
def _s3_errors() -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:  # obstore's NotFoundError is a subclass
        raise file_missing() from None
    except BaseError as error:
        raise FilesUnavailable(
            f"the S3 store failed ({type(error).__name__}): check FILE_STORE_URL, AWS_ENDPOINT_URL and the AWS keys",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from None


def file_missing() -> FileMissing:
    """Return the error for a file that the store has lost."""
    return FileMissing("the uploaded file is no longer there: upload it again")
