"""The shards of an embedded Qdrant, in one folder that processes share by turns.

One process at a time may have the folder open: a second process that only tries to open it breaks the writes of the
first. So a process takes a lock before it asks the engine to open anything. The owner, the worker that main.py starts,
keeps shards open between operations and hands the folder over when another process waits. Every other process opens a
shard for one operation. Opening takes 50 to 160 ms at 1,000 to 20,000 chunks.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from qdrant_edge import EdgeShard

from client.files.locks import FileLock, HandoverLock
from client.qdrant.base import nothing_indexed
from client.qdrant.chunk_cache import ChunkCache
from client.qdrant.damage import engine_failure, forget_damage, is_usable, note_damage, store_damaged, store_forbidden
from client.qdrant.points import COMPLETE
from errors import StoreDamaged, StoreError, StoreInUse, StoreUnavailable

log = logging.getLogger("rq.worker")

HANDOVER_SECONDS = 0.02
# A folder that was set aside has this before its name, and the time.
ASIDE_PREFIX = "damaged-"


@dataclass(slots=True)
class _OpenShard:
    """A shard that is open, the marker of its folder, its cache, and the number of operations that use it now."""

    shard: EdgeShard
    marker: tuple[int, int] | None
    chunks: ChunkCache = field(default_factory=ChunkCache)
    operations: int = 0


class ShardFolder:
    """The shards in a folder, each opened when it is needed. Safe for threads; a fork must make its own.

    `owner` claims the folder for the life of this object. Raises StoreInUse when another process has claimed it, and
    StoreRefused for a folder that this process may not read and write.
    """

    def __init__(self, folder: Path, *, owner: bool, wait_seconds: float) -> None:
        self.path = folder
        self._wait_seconds = wait_seconds
        self._make_folder()
        self._lock = HandoverLock(folder)
        self._owner_lock = FileLock(folder / "owner.lock")
        self._changed = threading.Condition()
        self._shards: dict[str, _OpenShard] = {}
        self._damages: dict[str, tuple[int, int] | None] = {}  # the markers of the shards that are damaged
        self._handing_over = False
        self._closed = threading.Event()
        self._keep_open = owner
        if owner:
            self._claim()
            threading.Thread(target=self._hand_over_while_contended, name="qdrant-handover", daemon=True).start()

    @contextmanager
    def open(
        self, name: str, *, create: Callable[[Path], EdgeShard] | None = None, briefly: bool = False
    ) -> Iterator[EdgeShard]:
        """Hold a shard open for one operation; `create` makes a missing shard in a folder.

        `briefly` closes the shard afterwards, unless it was open before. Raises:
            NothingIndexed: the shard does not exist, and `create` is None.
            StoreUnavailable: other processes kept the folder for `wait_seconds`, or the machine has no room.
            StoreDamaged: the engine cannot read its files.
            StoreRefused: this process may not read and write them.

        """
        with self._changed:
            self._changed.wait_for(lambda: not self._handing_over)
            if self._any_removed():
                self._changed.wait_for(self._is_idle)
                self._close_all()
                self._make_folder()
                if self._keep_open:  # its locks were in the folder, too
                    self._owner_lock.release()
                    self._claim()
            self._raise_damage(name)
            briefly = briefly and name not in self._shards
            if name not in self._shards:
                shard = self._open(name, create)
                self._shards[name] = _OpenShard(shard, self._marker(name))
            opened = self._shards[name]
            opened.operations += 1
        try:
            with self._engine_errors(name):
                yield opened.shard
        finally:
            with self._changed:
                opened.operations -= 1
                if not self._keep_open and self._is_idle():
                    self._close_all()
                elif briefly and not opened.operations:
                    self._close(name)
                self._changed.notify_all()

    def chunks(self, name: str) -> ChunkCache:
        """Return the cache of a shard that is open. Only who has the shard open writes to it."""
        return self._shards[name].chunks

    def names(self, prefix: str) -> list[str]:
        """Return the names of the complete shards whose names begin with `prefix`."""
        return sorted(path.name for path in self.path.glob(f"{prefix}*") if (path / COMPLETE).exists())

    def remove(self, name: str) -> None:
        """Delete a shard with all that is stored in it. Raises StoreUnavailable as `open` does."""
        with self._holding_closed(name):
            # A folder without its marker is no shard: after a crash here, the next start goes on with the removal.
            (self.path / name / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(self.path / name, ignore_errors=True)

    @contextmanager
    def copied(self, prefix: str, folder: Path) -> Iterator[None]:
        """Copy the shards that `names` gives to another folder; nobody uses the shards until the end of the block.

        Raises OSError, and as `open` does.
        """
        with self._holding_closed(*self.names(prefix)):
            for name in self.names(prefix):
                shutil.copytree(self.path / name, folder / name)
            yield

    def set_aside(self, name: str) -> Path:
        """Rename the folder of a shard, with all that is in it; return the new path. Raises as `open` does."""
        with self._holding_closed(name):
            return _set_aside(self.path / name)

    @contextmanager
    def _holding_closed(self, *names: str) -> Iterator[None]:
        """Wait for the operations of shards, close the shards, and keep the folder from others in the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._handing_over)
            self._changed.wait_for(lambda: not any(self._is_used(name) for name in names))
            for name in names:
                self._close(name)
            self._acquire()
            try:
                yield
            finally:
                self._release_if_unused()

    def close(self) -> None:
        """Write everything to disk and release the folder."""
        self._closed.set()
        with self._changed:
            self._close_all()
        self._owner_lock.release()

    def _claim(self) -> None:
        try:
            claimed = self._owner_lock.try_acquire()
        except OSError:
            raise store_forbidden(self.path) from None
        if not claimed:
            raise StoreInUse(
                f"the embedded vector store in {self.path} belongs to a running worker ({self._owner_lock.read()}). "
                "Embedded Qdrant takes one worker; for more, start a Qdrant server and set QDRANT_URL"
            )
        self._owner_lock.write(f"process {os.getpid()}")
        for path in self.path.glob("*/"):
            forget_damage(path)

    def _make_folder(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError:
            raise store_forbidden(self.path) from None
        if not is_usable(self.path):
            raise store_forbidden(self.path)

    def _is_idle(self) -> bool:
        return not any(self._is_used(name) for name in self._shards)

    def _is_used(self, name: str) -> bool:
        return name in self._shards and self._shards[name].operations > 0

    def _marker(self, name: str) -> tuple[int, int] | None:
        """Return what identifies the folder of a shard: its marker file. None if the folder has no marker."""
        try:
            found = (self.path / name / COMPLETE).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _is_removed(self, name: str) -> bool:
        """Return True if somebody removed the folder of an open shard: what is written to it now would be lost."""
        opened = self._shards.get(name)
        return opened is not None and self._marker(name) != opened.marker

    def _any_removed(self) -> bool:
        return any(self._is_removed(name) for name in self._shards)

    def _acquire(self) -> None:
        """Take the lock of the folder, unless this object has it. Raises StoreUnavailable."""
        self._make_folder()
        try:
            acquired = bool(self._shards) or self._lock.acquire(self._wait_seconds)
        except OSError:
            raise store_forbidden(self.path) from None
        if not acquired:
            raise StoreUnavailable(
                f"the embedded vector store in {self.path} was busy for {self._wait_seconds:.0f} s; "
                "try again, or start a Qdrant server and set QDRANT_URL"
            )

    def _release_if_unused(self) -> None:
        if not self._shards:
            self._lock.release()

    def _open(self, name: str, create: Callable[[Path], EdgeShard] | None) -> EdgeShard:
        self._acquire()
        try:
            with self._engine_errors(name):
                if self._marker(name) is not None:
                    return EdgeShard.load(str(self.path / name))
                if create is None:
                    raise nothing_indexed()
                return self._create(self.path / name, create)
        except BaseException:
            self._release_if_unused()
            raise

    def _create(self, path: Path, create: Callable[[Path], EdgeShard]) -> EdgeShard:
        """Create a shard. The marker is written last: a shard that a crash leaves without marker is created again."""
        if path.exists():
            log.warning("%s has no marker: it is set aside as %s", path, _set_aside(path))
        path.mkdir(parents=True)
        shard = create(path)
        shard.flush()
        (path / COMPLETE).touch()
        return shard

    @contextmanager
    def _engine_errors(self, name: str) -> Iterator[None]:
        """Translate what the engine raises. Raises StoreError."""
        path, opening = self.path / name, name not in self._shards
        try:
            yield
        except BaseException as error:
            failure = engine_failure(error, path, opening=opening)
            if failure is None:
                raise
            if self._is_removed(name):
                failure = StoreUnavailable(f"the embedded vector store in {path} was removed; try again")
            if isinstance(failure, StoreDamaged):
                self._note(name, failure, error)
            raise failure from None

    def _note(self, name: str, failure: StoreError, cause: BaseException) -> None:
        """Log a failure of the engine, and keep a damage until another folder is in place of the shard's."""
        if not isinstance(failure, StoreDamaged):
            log.error("%s (%s)", failure.detail, type(cause).__name__)
        elif name not in self._damages:
            self._damages[name] = self._marker(name)
            note_damage(self.path / name, failure, cause)

    def _raise_damage(self, name: str) -> None:
        """Raise the damage of a shard that is known already."""
        if name not in self._damages:
            return
        if self._damages[name] == self._marker(name):
            raise store_damaged(self.path / name)
        del self._damages[name]  # another folder is in its place

    def _close_all(self) -> None:
        """Close the open shards, and release the folder to other processes. Call with `_changed` held."""
        for name in list(self._shards):
            self._close(name)

    def _close(self, name: str) -> None:
        """Close a shard if it is open; with the last, release the folder. Call with `_changed` held."""
        if name not in self._shards:
            return
        removed = self._is_removed(name)
        shard = self._shards.pop(name).shard
        try:
            shard.flush()
            shard.close()
        except BaseException as error:
            failure = engine_failure(error, self.path / name, opening=True)
            if failure is None and not removed:
                raise
            if failure is not None and not removed:  # the operations have succeeded; the next one fails
                self._note(name, failure, error)
        finally:
            self._release_if_unused()
        if removed:
            log.error("the embedded vector store in %s was removed while it was open", self.path / name)

    def _is_wanted(self) -> bool:
        """Return True if another process waits for the folder while shards are open."""
        try:
            with self._changed:
                usable = bool(self._shards) and not self._any_removed()
            return usable and self._lock.contended()
        except OSError:  # the folder was removed just now
            return False

    def _hand_over_while_contended(self) -> None:
        while not self._closed.wait(HANDOVER_SECONDS):
            if not self._is_wanted():
                continue
            with self._changed:
                self._handing_over = True
                self._changed.wait_for(self._is_idle)
                try:
                    self._close_all()
                finally:
                    self._handing_over = False
                    self._changed.notify_all()


def _set_aside(path: Path) -> Path:
    """Rename a folder beside itself, to a name that no shard has."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    return path.rename(path.with_name(f"{ASIDE_PREFIX}{stamp}-{path.name}"))


@dataclass(frozen=True, slots=True)
class SharedShard:
    """One shard of a folder."""

    folder: ShardFolder
    name: str

    def open(self, *, create: Callable[[Path], EdgeShard] | None = None) -> AbstractContextManager[EdgeShard]:
        """As ShardFolder.open."""
        return self.folder.open(self.name, create=create)
