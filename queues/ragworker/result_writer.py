"""The thread that writes what jobs leave: their endings and, while they run, their notes.

Job threads only hand over, so they never wait for Valkey. What has gathered meanwhile goes out in one trip. When
Valkey is away it all stays here until it is back: an answer is paid for once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from client.rq.transitions import ExecutionRef, JobOutcome, JobTransitions

log = logging.getLogger("rq.worker")

# More in one trip would keep the server from others for longer.
MOST_AT_ONCE = 128
SHORTEST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 1.0

_OUT_OF_ORDER = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY", "OOM")

Written = Callable[[ExecutionRef, JobOutcome, int], None]


class ResultWriter:
    """Hands over are kept in order: a job's notes never follow its ending.

    `written` is called for each ending with the answer of `JobTransitions.finish_all`, and with 0 for one that Valkey
    refused.
    """

    def __init__(self, ledger: JobTransitions, written: Written) -> None:
        self._ledger = ledger
        self._written = written
        self._changed = threading.Condition()
        self._endings: dict[str, tuple[ExecutionRef, JobOutcome]] = {}
        self._notes: dict[str, tuple[ExecutionRef, bytes]] = {}
        self._given_up = False
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, holder: ExecutionRef, ending: JobOutcome) -> None:
        """Have an ending written."""
        with self._changed:
            self._notes.pop(holder.execution_id, None)
            self._endings[holder.execution_id] = (holder, ending)
            self._changed.notify()

    def keep_meta(self, holder: ExecutionRef, meta: bytes) -> None:
        """Have notes written. Later ones replace earlier ones that are still here."""
        with self._changed:
            if holder.execution_id not in self._endings:
                self._notes[holder.execution_id] = (holder, meta)
                self._changed.notify()

    @property
    def pending(self) -> int:
        """How many endings are not written yet."""
        return len(self._endings)

    def close(self, *, give_up: bool) -> None:
        """End the thread, once all is written or at once."""
        with self._changed:
            self._closed, self._given_up = True, give_up
            self._changed.notify()
        self._thread.join(LONGEST_WAIT_SECONDS if give_up else None)

    def _loop(self) -> None:
        wait = SHORTEST_WAIT_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._endings or self._notes or self._closed)
                if self._given_up or not (self._endings or self._notes):
                    return
                notes = list(self._notes.values())
                endings = list(self._endings.values())[:MOST_AT_ONCE]
            try:
                self._write_notes(notes)
                self._write_endings(endings)
                wait = SHORTEST_WAIT_SECONDS
            except (RedisError, OSError) as error:
                if wait == SHORTEST_WAIT_SECONDS:
                    log.warning("Valkey cannot be written (%s); %d results wait", type(error).__name__, len(endings))
                with self._changed:
                    self._changed.wait_for(lambda: self._given_up, wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _write_notes(self, notes: list[tuple[ExecutionRef, bytes]]) -> None:
        for holder, meta in notes:
            try:
                self._ledger.save_meta(holder, meta)
            except ResponseError as error:
                if not _final(error):
                    raise
                log.warning("job %s: its notes were refused: %s", holder.job_id, error)
            with self._changed:
                if self._notes.get(holder.execution_id, (None, b""))[1] is meta:
                    del self._notes[holder.execution_id]

    def _write_endings(self, endings: list[tuple[ExecutionRef, JobOutcome]]) -> None:
        if not endings:
            return
        answers = self._ledger.finish_all(endings)
        refused: RedisError | None = None
        for (holder, ending), answer in zip(endings, answers, strict=True):
            if isinstance(answer, RedisError) and not _final(answer):
                refused = answer
                continue
            if isinstance(answer, RedisError):
                log.error("job %s: its ending was refused: %s", holder.job_id, answer)
            with self._changed:
                del self._endings[holder.execution_id]
            self._written(holder, ending, 0 if isinstance(answer, RedisError) else answer)
        if refused is not None:
            raise refused


def _final(error: RedisError) -> bool:
    """Whether asking again would change nothing: the command was wrong, not the server out of order."""
    passing = isinstance(error, OutOfMemoryError | ReadOnlyError) or str(error).startswith(_OUT_OF_ORDER)
    return isinstance(error, ResponseError) and not passing
