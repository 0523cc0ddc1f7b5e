"""A backup as one place of named members: a folder, or a tar file that may be compressed.

The last member lists the others with their sizes and hashes. A backup is written beside its place and renamed when it
is complete, so that the beginning of a backup is never taken for one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

import orjson

from client.files.locks import FileLock
from errors import BackupError

MANIFEST = "manifest.json"
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
COPY_BYTES = 1024 * 1024
SPOOL_BYTES = 16 * COPY_BYTES
# Vectors and most documents hardly get smaller: little time is spent on them.
_GZIP_LEVEL, _ZSTD_LEVEL = 1, 3
_NAME = re.compile(r"[\w.~%-]+(/[\w.~%-]+)*", re.ASCII)


class _Place(Protocol):
    """Where members go."""

    def add(self, name: str, size: int, content: BinaryIO) -> None:
        """Write a member of exactly `size` bytes."""


class BackupWriter:
    """Writes members, and remembers their hashes. Only its owner may read what it writes."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._members: dict[str, dict[str, Any]] = {}
        self.bytes = 0

    def add(self, name: str, content: bytes) -> None:
        """Write a member. Raises BackupError."""
        self._add(name, len(content), io.BytesIO(content))
        self._members[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def add_file(self, name: str, chunks: Iterable[bytes]) -> str:
        """Write a member out of chunks, and return its SHA-256. Raises BackupError, and what reading them raises."""
        sha256 = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:  # a tar file wants the size first
            for chunk in chunks:
                sha256.update(chunk)
                spool.write(chunk)
            size = spool.tell()
            spool.seek(0)
            self._add(name, size, cast("BinaryIO", spool))
        self._members[name] = {"bytes": size, "sha256": sha256.hexdigest()}
        return sha256.hexdigest()

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, which makes the backup complete. Raises BackupError."""
        content = orjson.dumps(manifest | {"members": self._members}, option=orjson.OPT_INDENT_2)
        self._add(MANIFEST, len(content), io.BytesIO(content))

    def _add(self, name: str, size: int, content: BinaryIO) -> None:
        try:
            self._place.add(name, size, content)
        except OSError as error:
            raise BackupError(f"the backup cannot be written: {error.strerror or error}") from None
        self.bytes += size


@contextmanager
def writing(target: Path) -> Iterator[BackupWriter]:
    """Yield a writer of a backup at `target`, which exists after the block if that has ended well, and not otherwise.

    A path that ends with one of SUFFIXES is one file, any other a folder. Raises BackupError.
    """
    partial = target.with_name(f"{target.name}.partial")
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise BackupError(f"{target} exists already: name another place, or remove it")
        if not lock.try_acquire():
            raise BackupError(f"another process writes to {target}")
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from None
    try:
        _remove(partial)  # of a backup that was killed
        with _opened_place(partial, target.name) as place:
            yield BackupWriter(place)
        partial.rename(target)
        _sync(target.parent)
    except BaseException:
        _remove(partial)
        raise
    finally:
        target.with_name(f"{target.name}.lock").unlink(missing_ok=True)
        lock.release()


class BackupReader:
    """Reads the members of a backup in the order in which they were written, as often as needed."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self.manifest: dict[str, Any] = {}

    def verify(self) -> None:
        """Read all of the backup, and compare it with its manifest, which is then `manifest`. Raises BackupError."""
        found: dict[str, dict[str, Any]] = {}
        with self._reading():
            for name, content in self._members():
                if name == MANIFEST:
                    self.manifest = _parse_manifest(content.read())
                    continue
                sha256, size = hashlib.sha256(), 0
                while chunk := content.read(COPY_BYTES):
                    sha256.update(chunk)
                    size += len(chunk)
                found[name] = {"bytes": size, "sha256": sha256.hexdigest()}
        if not self.manifest:
            raise BackupError(f"{self._source} is no complete backup, as it has no {MANIFEST}: take another backup")
        listed = self.manifest.get("members", {})
        wrong = sorted(name for name in {*listed, *found} if listed.get(name) != found.get(name))
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise BackupError(f"{self._source} is damaged ({wrong[0]}{more}): take another backup")

    def members(self, prefix: str) -> Iterator[tuple[str, BinaryIO]]:
        """Yield the names and contents of the members whose names begin with `prefix`. Raises BackupError."""
        for name, content in self._members():
            if name.startswith(prefix):
                yield name, content

    def lines(self, prefix: str) -> Iterator[tuple[str, list[bytes]]]:
        """Yield the names and the lines of such members. Raises BackupError."""
        for name, content in self.members(prefix):
            yield name, content.read().splitlines()

    def _members(self) -> Iterator[tuple[str, BinaryIO]]:
        with self._reading():
            yield from _members_of_folder(self._source) if self._source.is_dir() else _members_of_tar(self._source)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Translate what reading raises, here and where a member is read, to BackupError."""
        try:
            yield
        except (EOFError, zlib.error, tarfile.TarError, _zstd().ZstdError) as error:
            raise BackupError(f"{self._source} is damaged ({error}): take another backup") from None
        except OSError as error:
            raise BackupError(f"{self._source} cannot be read: {error.strerror or error}") from None


def _members_of_folder(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    manifest = folder / MANIFEST
    names = _parse_manifest(manifest.read_bytes()).get("members", {}) if manifest.exists() else {}
    for name in names:
        if not _NAME.fullmatch(name) or ".." in name.split("/"):
            raise BackupError(f"{folder} is damaged: {name!a} is no name of a member; take another backup")
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                yield name, file
    if manifest.exists():
        with manifest.open("rb") as file:
            yield MANIFEST, file


def _members_of_tar(source: Path) -> Iterator[tuple[str, BinaryIO]]:
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(source.open("rb"))
        if source.name.endswith(".zst"):
            file = stack.enter_context(_zstd().ZstdDecompressor().stream_reader(file, read_across_frames=True))
        elif source.name.endswith("gz"):
            file = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=file)))
        tar = stack.enter_context(tarfile.open(fileobj=file, mode="r|"))
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                yield member.name, cast("BinaryIO", content)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, size: int, content: BinaryIO) -> None:  # noqa: ARG002
        path = self._folder / name
        for parent in reversed(path.relative_to(self._folder).parents[:-1]):
            (self._folder / parent).mkdir(mode=0o700, exist_ok=True)
        with _create(path) as file:
            shutil.copyfileobj(content, file, COPY_BYTES)
            file.flush()
            os.fsync(file.fileno())


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, size: int, content: BinaryIO) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        self._tar.addfile(info, content)


@contextmanager
def _opened_place(partial: Path, name: str) -> Iterator[_Place]:
    if not name.endswith(SUFFIXES):
        partial.mkdir(mode=0o700)
        yield _Folder(partial)
        return
    with _create(partial) as file:
        with (
            _compressed(file, name) as stream,
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            yield _Tar(tar)
        file.flush()
        os.fsync(file.fileno())


def _compressed(file: BinaryIO, name: str) -> AbstractContextManager[Any]:
    if name.endswith(".zst"):
        writer: AbstractContextManager[Any] = _zstd().ZstdCompressor(_ZSTD_LEVEL).stream_writer(file, closefd=False)
        return writer
    if name.endswith("gz"):
        return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_GZIP_LEVEL)
    return nullcontext(file)


def _create(path: Path) -> BinaryIO:
    """Create a file that its owner alone may read, and open it."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync(folder: Path) -> None:
    """Have a renamed entry of a folder survive a crash; Windows does not open folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _parse_manifest(content: bytes) -> dict[str, Any]:
    try:
        manifest = orjson.loads(content)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise BackupError("the manifest of the backup cannot be read: take another backup")
    return manifest


def _zstd() -> Any:
    import zstandard  # only for backups that end with .zst

    return zstandard
