"""An embedded Qdrant shard that processes share by turns.

One process at a time may have the folder open: a second process that only tries to open it breaks the writes of the
first. So a process takes a lock before it asks the engine to open anything. The owner, the worker that main.py starts,
keeps the shard open between operations and hands the folder over when another process waits. Every other process opens
the shard for one operation. Opening takes 50 to 160 ms at 1,000 to 20,000 chunks.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qdrant_edge import EdgeShard

from client.files.locks import FileLock, HandoverLock
from client.qdrant.base import nothing_indexed
from client.qdrant.points import COMPLETE
from errors import StoreInUse, StoreUnavailable

log = logging.getLogger("rq.worker")

HANDOVER_SECONDS = 0.02


class SharedShard:
    """A shard in `folder / name`, opened when it is needed. Safe for threads; a fork must make its own.

    `owner` claims the folder for the life of this object. Raises StoreInUse when another process has claimed it.
    """

    def __init__(self, folder: Path, name: str, *, owner: bool, wait_seconds: float) -> None:
        self._folder = folder
        self._path = folder / name
        self._wait_seconds = wait_seconds
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = HandoverLock(folder)
        self._owner_lock = FileLock(folder / "owner.lock")
        self._changed = threading.Condition()
        self._shard: EdgeShard | None = None
        self._opened: tuple[int, int] | None = None  # the marker of the shard that is open
        self._operations = 0
        self._handing_over = False
        self._closed = threading.Event()
        self._keep_open = owner
        if owner:
            self._claim()
            threading.Thread(target=self._hand_over_while_contended, name="qdrant-handover", daemon=True).start()

    @contextmanager
    def open(self, *, create: Callable[[Path], EdgeShard] | None = None) -> Iterator[EdgeShard]:
        """Hold the shard open for one operation; `create` makes a missing shard in a folder.

        Raises:
            NothingIndexed: the shard does not exist, and `create` is None.
            StoreUnavailable: other processes kept the folder for `wait_seconds`.

        """
        with self._changed:
            self._changed.wait_for(lambda: not self._handing_over)
            if self._is_removed():
                self._changed.wait_for(lambda: not self._operations)
                self._close()
                self._folder.mkdir(parents=True, exist_ok=True)
                if self._keep_open:  # its locks were in the folder, too
                    self._owner_lock.release()
                    self._claim()
            if self._shard is None:
                self._shard = self._open(create)
                self._opened = self._marker()
            self._operations += 1
            shard = self._shard
        try:
            yield shard
        finally:
            with self._changed:
                self._operations -= 1
                if not self._keep_open and not self._operations:
                    self._close()
                self._changed.notify_all()

    def close(self) -> None:
        """Write everything to disk and release the folder."""
        self._closed.set()
        with self._changed:
            self._close()
        self._owner_lock.release()

    def _claim(self) -> None:
        if not self._owner_lock.try_acquire():
            raise StoreInUse(
                f"the embedded vector store in {self._folder} belongs to a running worker ({self._owner_lock.read()}). "
                "Embedded Qdrant takes one worker; for more, start a Qdrant server and set QDRANT_URL"
            )
        self._owner_lock.write(f"process {os.getpid()}")

    def _marker(self) -> tuple[int, int] | None:
        """Identify the folder of the shard by its marker; None when there is none."""
        try:
            found = (self._path / COMPLETE).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _is_removed(self) -> bool:
        """Return True if somebody removed the folder of the open shard: what is written to it now would be lost."""
        return self._shard is not None and self._marker() != self._opened

    def _open(self, create: Callable[[Path], EdgeShard] | None) -> EdgeShard:
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire(self._wait_seconds):
            raise StoreUnavailable(
                f"the embedded vector store in {self._folder} was busy for {self._wait_seconds:.0f} s; "
                "try again, or start a Qdrant server and set QDRANT_URL"
            )
        try:
            if (self._path / COMPLETE).exists():
                return EdgeShard.load(str(self._path))
            if create is None:
                raise nothing_indexed()
            return self._create(create)
        except BaseException:
            self._lock.release()
            raise

    def _create(self, create: Callable[[Path], EdgeShard]) -> EdgeShard:
        """Create the shard. The marker is written last: a shard that a crash leaves without marker is created again."""
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(parents=True)
        shard = create(self._path)
        shard.flush()
        (self._path / COMPLETE).touch()
        return shard

    def _close(self) -> None:
        """Close the shard, if it is open, and release the folder to other processes. Call with `_changed` held."""
        if self._shard is None:
            return
        removed = self._is_removed()
        shard, self._shard = self._shard, None
        try:
            shard.flush()
            shard.close()
        except Exception:
            if not removed:
                raise
        finally:
            self._lock.release()
        if removed:
            log.error("the embedded vector store in %s was removed while it was open", self._path)

    def _is_wanted(self) -> bool:
        """Return True if another process waits for the open shard."""
        try:
            return self._shard is not None and not self._is_removed() and self._lock.contended()
        except OSError:  # the folder was removed just now
            return False

    def _hand_over_while_contended(self) -> None:
        while not self._closed.wait(HANDOVER_SECONDS):
            if not self._is_wanted():
                continue
            with self._changed:
                self._handing_over = True
                self._changed.wait_for(lambda: not self._operations)
                try:
                    self._close()
                finally:
                    self._handing_over = False
                    self._changed.notify_all()
