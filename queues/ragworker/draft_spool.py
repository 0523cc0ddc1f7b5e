"""Keeps on disk what models answered while Valkey cannot be written, so that no answer is lost with its worker.

The next attempt at the job under any RagWorker with the same folder begins at the draft. A draft that Valkey takes
within DELAY_SECONDS never gets on the disk. Nothing is synced: a draft has to outlive its worker, not the machine.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from pathlib import Path
from typing import cast

from redis import Redis

from client.rq.records import STATUSES, decode_text
from client.valkey import keys
from schemas import JobStatus

log = logging.getLogger("rq.worker")

# Usually a draft is in Valkey after 10 to 20 ms.
DELAY_SECONDS = 0.05
# Bounds of the folder. A draft with passages of 4,000 tokens takes 30 kB.
MAX_DRAFTS = 256
MAX_DRAFT_BYTES = 1024 * 1024
MAX_AGE_SECONDS = 86_400


class DraftSpool:
    """The drafts of jobs that run here and are not in Valkey yet, and those that dead workers left in the same folder.

    A file is named after its job. Its first line is the digest of the job's call, so that a draft is never used for
    another question. If the folder cannot be written, drafts are not kept.
    """

    def __init__(self, folder: Path, *, delay_seconds: float = DELAY_SECONDS) -> None:
        self._folder = folder
        self._delay_seconds = delay_seconds
        self._changed = threading.Condition()
        # By job id: from when on its file is to be written, and the content; None to remove the file.
        self._due: dict[str, tuple[float, bytes | None]] = {}
        self._on_disk: set[str] = set()  # job ids
        self._closed = False
        self._failed = False
        # The only thread that writes: a slow disk delays neither jobs nor the writing to Valkey.
        self._thread = threading.Thread(target=self._loop, name="drafts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def keep(self, job_id: str, call: bytes, draft: bytes) -> None:
        """Keep the draft of a job until `discard`. `call`: the field `data` of the job's record."""
        if len(draft) <= MAX_DRAFT_BYTES:
            self._plan(job_id, _digest(call) + b"\n" + draft)

    def discard(self, job_id: str) -> None:
        """Forget the draft of a job: Valkey has it, or the job has ended."""
        with self._changed:
            self._due.pop(job_id, None)
            if job_id in self._on_disk:
                self._plan(job_id, None)

    def find(self, job_id: str, call: bytes) -> bytes | None:
        """Return the draft that an earlier attempt at this call left; None if no attempt left a draft."""
        try:
            digest, _, draft = (self._folder / job_id).read_bytes().partition(b"\n")
        except OSError:
            return None
        self._on_disk.add(job_id)  # which the end of this attempt discards
        return draft if digest == _digest(call) else None

    def prune(self, valkey: Redis) -> None:
        """Remove the drafts of jobs that have ended or are gone, and those that are too old. Raises RedisError."""
        for path in self._files():
            status = decode_text(cast("bytes | None", valkey.hget(keys.job(path.name), "status")))
            if STATUSES.get(status, JobStatus.FAILED).terminal or _is_old(path):
                self._plan(path.name, None)

    def close(self) -> None:
        """Do what is due now or later, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _plan(self, job_id: str, content: bytes | None) -> None:
        with self._changed:
            self._due[job_id] = (time.monotonic() + self._delay_seconds, content)
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._closed)
                if not self._due:
                    return
                job_id, (due_at, content) = next(iter(self._due.items()))
                if not self._closed and (seconds := due_at - time.monotonic()) > 0:
                    self._changed.wait(seconds)
                    continue
                del self._due[job_id]
                (self._on_disk.discard if content is None else self._on_disk.add)(job_id)
            try:
                self._write(self._folder / job_id, content)
            except OSError as error:
                if not self._failed:
                    log.warning("answers that wait for Valkey cannot be kept in %s (%s)", self._folder, error.strerror)
                self._failed = True

    def _write(self, path: Path, content: bytes | None) -> None:
        if content is None:
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if len(self._files()) < MAX_DRAFTS:
            path.touch(mode=0o600)
            path.write_bytes(content)

    def _files(self) -> list[Path]:
        try:
            return list(self._folder.iterdir())
        except OSError:
            return []


def _digest(call: bytes) -> bytes:
    return hashlib.sha256(call).hexdigest().encode()


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > MAX_AGE_SECONDS
    except OSError:  # it was removed
        return False
