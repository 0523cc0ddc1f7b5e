"""Processes taking turns at a folder that only one of them may use at a time."""

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
    """A lock on a file, held by an open file of this process and dropped by the kernel when the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; also true when this object holds it already."""
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
        """Give the lock back; nothing happens when it is not held."""
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(portalocker.LockException, OSError):
                portalocker.unlock(file)
            file.close()

    def write(self, text: str) -> None:
        """Note in the file who holds it, for the message another process gives."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(text.encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def read(self) -> str:
        """Return what the holder noted."""
        try:
            return self._path.read_text().strip()
        except OSError:
            return ""


class Turns:
    """A lock that its holder can see others waiting for, so that it can hand over between two operations.

    Who wants a turn first takes `next`, then waits for `turn`, then lets go of `next`. So `next` is taken
    exactly while somebody waits.
    """

    def __init__(self, folder: Path) -> None:
        self._turn = FileLock(folder / "turn.lock")
        self._next = FileLock(folder / "next.lock")

    def acquire(self, timeout_seconds: float) -> bool:
        """Wait for a turn. False when it did not come in time."""
        try:
            return wait_for_lock(self._next, timeout_seconds) and wait_for_lock(self._turn, timeout_seconds)
        finally:
            self._next.release()

    def wanted(self) -> bool:
        """Tell whether another process waits for its turn."""
        free = self._next.try_acquire()
        self._next.release()
        return not free

    def release(self) -> None:
        """End the turn."""
        self._turn.release()


def wait_for_lock(lock: FileLock, timeout_seconds: float) -> bool:
    """Take a lock as soon as it is free. False when that did not come in time."""
    deadline = time.monotonic() + timeout_seconds
    while not lock.try_acquire():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
