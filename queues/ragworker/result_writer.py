"""The thread that writes the outcomes of jobs and, while they run, their notes.

Job threads only hand their data over, so they never wait for Valkey. All data that has gathered meanwhile is written in
one round trip. While Valkey is away the data stays here: an answer that a model was paid for is not lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from client.rq.transitions import ExecutionRef, JobOutcome, JobTransitions

log = logging.getLogger("rq.worker")

# A larger batch would keep Valkey from other clients for longer.
MAX_BATCH = 128
MIN_RETRY_SECONDS = 0.05
MAX_RETRY_SECONDS = 1.0

# Errors of a server that cannot write now, by their first word.
_TEMPORARY = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY", "OOM")


class ResultWriter:
    """Writes outcomes and notes in order: the notes of a job never follow its outcome.

    `on_written` is called for each outcome. Its last argument is True when the outcome is in Valkey, False when
    the outcome can never be written: the execution no longer held the job, or Valkey refused the command for good.
    """

    def __init__(
        self, transitions: JobTransitions, on_written: Callable[[ExecutionRef, JobOutcome, bool], None]
    ) -> None:
        self._transitions = transitions
        self._on_written = on_written
        self._changed = threading.Condition()
        # By execution id.
        self._outcomes: dict[str, tuple[ExecutionRef, JobOutcome]] = {}
        self._notes: dict[str, tuple[ExecutionRef, bytes]] = {}
        self._discard = False
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def write_outcome(self, execution: ExecutionRef, outcome: JobOutcome) -> None:
        """Write an outcome soon."""
        with self._changed:
            self._notes.pop(execution.execution_id, None)
            self._outcomes[execution.execution_id] = (execution, outcome)
            self._changed.notify()

    def write_notes(self, execution: ExecutionRef, notes: bytes) -> None:
        """Write notes soon. They replace earlier notes of the same job that still wait here."""
        with self._changed:
            if execution.execution_id not in self._outcomes:
                self._notes[execution.execution_id] = (execution, notes)
                self._changed.notify()

    @property
    def pending(self) -> int:
        """The number of outcomes not yet written."""
        return len(self._outcomes)

    def close(self, *, discard: bool) -> None:
        """End the thread once everything is written; with `discard` at once."""
        with self._changed:
            self._closed, self._discard = True, discard
            self._changed.notify()
        self._thread.join(MAX_RETRY_SECONDS if discard else None)

    def _loop(self) -> None:
        delay = MIN_RETRY_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._outcomes or self._notes or self._closed)
                if self._discard or not (self._outcomes or self._notes):
                    return
                notes = list(self._notes.values())
                outcomes = list(self._outcomes.values())[:MAX_BATCH]
            try:
                self._write_notes(notes)
                self._write_outcomes(outcomes)
                delay = MIN_RETRY_SECONDS
            except (RedisError, OSError) as error:
                if delay == MIN_RETRY_SECONDS:
                    log.warning("Valkey cannot be written (%s); %d results wait", type(error).__name__, len(outcomes))
                with self._changed:
                    self._changed.wait_for(lambda: self._discard, delay)
                delay = min(2 * delay, MAX_RETRY_SECONDS)

    def _write_notes(self, notes: list[tuple[ExecutionRef, bytes]]) -> None:
        for execution, data in notes:
            try:
                self._transitions.save_meta(execution, data)
            except ResponseError as error:
                if not _is_permanent(error):
                    raise
                log.warning("job %s: its notes were refused: %s", execution.job_id, error)
            with self._changed:
                if self._notes.get(execution.execution_id, (None, b""))[1] is data:
                    del self._notes[execution.execution_id]

    def _write_outcomes(self, outcomes: list[tuple[ExecutionRef, JobOutcome]]) -> None:
        if not outcomes:
            return
        replies = self._transitions.finish_all(outcomes)
        retry_for: RedisError | None = None
        for (execution, outcome), reply in zip(outcomes, replies, strict=True):
            if isinstance(reply, RedisError) and not _is_permanent(reply):
                retry_for = reply
                continue
            if isinstance(reply, RedisError):
                log.error("job %s: its outcome was refused: %s", execution.job_id, reply)
            with self._changed:
                del self._outcomes[execution.execution_id]
            self._on_written(execution, outcome, not isinstance(reply, RedisError) and reply != 0)
        if retry_for is not None:
            raise retry_for


def _is_permanent(error: RedisError) -> bool:
    """Return True if a repeat would fail as well: the command is at fault, not the state of the server."""
    temporary = isinstance(error, OutOfMemoryError | ReadOnlyError) or str(error).startswith(_TEMPORARY)
    return isinstance(error, ResponseError) and not temporary
