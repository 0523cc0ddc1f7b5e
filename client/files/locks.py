"""Locks between processes, on files."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import portalocker

POLL_SECONDS = 0.01
_EXCLUSIVE_NOW = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING


class FileLock:
    """A lock on a file. The kernel drops the lock when the process that holds it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free. True also when this object holds it already."""
        if self._file is not None:
            return True
        file = self._path.open("a+b")
        try:
            portalocker.lock(file, _EXCLUSIVE_NOW)
        except portalocker.LockException:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Release the lock. Does nothing when this object does not hold it."""
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(portalocker.LockException, OSError):
                portalocker.unlock(file)
            file.close()

    def write(self, text: str) -> None:
        """Write who holds the lock into its file, for the error message of another process."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(text.encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def read(self) -> str:
        """Return the text that the holder wrote; empty when the file cannot be read."""
        try:
            return self._path.read_text().strip()
        except OSError:
            return ""


class HandoverLock:
    """A lock on a folder whose holder can see that another process waits, and so hand over between two operations.

    A process that wants the lock first takes `next.lock`, then waits for `turn.lock`, then releases `next.lock`. So
    `next.lock` is held exactly while a process waits.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / "turn.lock")
        self._waiting = FileLock(folder / "next.lock")

    def acquire(self, timeout_seconds: float) -> bool:
        """Wait for the lock. False after `timeout_seconds`."""
        try:
            return wait_for_lock(self._waiting, timeout_seconds) and wait_for_lock(self._lock, timeout_seconds)
        finally:
            self._waiting.release()

    def contended(self) -> bool:
        """Return True while another process waits for the lock."""
        free = self._waiting.try_acquire()
        self._waiting.release()
        return not free

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def wait_for_lock(lock: FileLock, timeout_seconds: float) -> bool:
    """Take a lock as soon as it is free. False after `timeout_seconds`, with the lock not taken."""
    deadline = time.monotonic() + timeout_seconds
    while not lock.try_acquire():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
