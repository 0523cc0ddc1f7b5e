"""Pictures and texts of pages in a folder of this machine, so that a page is drawn once. All of it can be lost."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# An entry that nobody has asked for in this time is removed.
MAX_AGE_SECONDS = 86_400
TRIM_SECONDS = 600
# The cache is trimmed to this share of its size, so that not every new entry trims it.
_LOW_WATER = 0.8


class PageCache:
    """Bytes by upload and name, at most about `max_bytes` of them. Safe for threads and processes."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._added = 0
        self._trimmed_at = 0.0

    def get(self, upload_id: str, name: str) -> bytes | None:
        """Return an entry, and remember that it was used; None without the entry."""
        path = self._folder / upload_id / name
        with suppress(OSError):
            data = path.read_bytes()
            os.utime(path)
            return data
        return None

    def put(self, upload_id: str, name: str, data: bytes) -> None:
        """Add an entry, as far as the disk allows."""
        folder = self._folder / upload_id
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(partial).replace(folder / name)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        self._added += len(data)
        if self._added > self._max_bytes * (1 - _LOW_WATER):
            self.trim()

    def forget(self, upload_id: str) -> None:
        """Remove all entries of an upload."""
        shutil.rmtree(self._folder / upload_id, ignore_errors=True)

    def trim_if_due(self) -> None:
        """Trim the cache every TRIM_SECONDS."""
        if time.monotonic() - self._trimmed_at >= TRIM_SECONDS or not self._trimmed_at:
            self.trim()

    def trim(self) -> None:
        """Remove old entries, and those that were not used for the longest time while all are too large together."""
        self._added, self._trimmed_at = 0, time.monotonic()
        entries: list[tuple[float, int, Path]] = []
        with suppress(OSError):
            for path in self._folder.glob("*/*"):
                state = path.stat()
                entries.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in entries)
        bound = self._max_bytes * _LOW_WATER if total > self._max_bytes else self._max_bytes
        oldest = time.time() - MAX_AGE_SECONDS
        for used_at, size, path in sorted(entries):
            if used_at >= oldest and total <= bound:
                break
            total -= size
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()
