"""The thread that writes the events, notes and drafts of running jobs, and their outcomes.

Job threads only hand their data over, so they never wait for Valkey. All data that has gathered meanwhile is written in
one round trip. While Valkey is away the data stays here: an answer that a model was paid for is not lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from client.rq.event_writer import EventBuffer
from client.rq.transitions import (
    JOB_WRITE_SCRIPTS,
    RUNNING_FIELDS,
    ExecutionRef,
    HandBack,
    JobOutcome,
    JobTransitions,
    RunningField,
)
from client.valkey.scripts import ScriptCall, run_all

log = logging.getLogger("rq.worker")

# The least time between two round trips for events and notes. For 128 jobs that write 20 events/s each, an event cost
# 70 µs of CPU and up to 0.4 s of waiting when each job wrote its own; now 20 µs, and 0.01 ms to hand it over.
TICK_SECONDS = 0.01
# How many jobs' events, and how many outcomes, go into one round trip. A larger batch would keep Valkey from other
# clients for longer.
MAX_BATCH = 128
MIN_RETRY_SECONDS = 0.05
# Soon after Valkey's return all must be written: a worker that dies before takes the answers of its jobs along.
MAX_RETRY_SECONDS = 0.2
# How long `close` waits for a thread that discards what it has.
DISCARD_SECONDS = 1.0

# Errors of a server that cannot write now, by their first word.
_TEMPORARY = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY", "OOM")

# The job, the call, and the function that takes its reply.
_Write = tuple[str, ScriptCall, Callable[[Any], None]]


class JobWriter:
    """Writes what jobs hand over: of each job its events first, then its latest notes and draft, then its outcome.

    Events, notes and drafts wait until `tick_seconds` have passed since the last round trip. Outcomes do not wait:
    their jobs still hold slots.

    `on_written` is called for each outcome. Its last argument is True when the outcome is in Valkey, False when
    the outcome can never be written: the execution no longer held the job, or Valkey refused the command for good.
    `on_draft_written` is called with the id of a job once Valkey has taken or refused its draft.
    """

    def __init__(
        self,
        transitions: JobTransitions,
        on_written: Callable[[ExecutionRef, JobOutcome | HandBack, bool], None],
        *,
        on_draft_written: Callable[[str], None] = lambda _job_id: None,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._transitions = transitions
        self._on_written = on_written
        self._on_draft_written = on_draft_written
        self._tick_seconds = tick_seconds
        self._changed = threading.Condition()
        # What is not in Valkey yet, by execution id.
        self._events: dict[str, EventBuffer] = {}
        self._fields: dict[tuple[str, RunningField], tuple[ExecutionRef, bytes]] = {}
        self._outcomes: dict[str, tuple[ExecutionRef, JobOutcome | HandBack]] = {}
        self._urgent = False
        self._discard = False
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def write_event(self, execution: ExecutionRef, events: EventBuffer, kind: str, data: dict[str, Any]) -> None:
        """Write an event soon. Raises ValueError for a text that UTF-8 cannot hold."""
        events.add(kind, data)
        with self._changed:
            self._wake_if_idle()
            self._events[execution.execution_id] = events

    def write_field(self, execution: ExecutionRef, field: RunningField, value: bytes) -> None:
        """Write the notes or the draft of a job soon. They replace an earlier value that still waits here."""
        with self._changed:
            if execution.execution_id not in self._outcomes:
                self._wake_if_idle()
                self._fields[execution.execution_id, field] = (execution, value)

    def write_outcome(self, execution: ExecutionRef, outcome: JobOutcome | HandBack) -> None:
        """Write an outcome at once, or hand the job back."""
        with self._changed:
            if isinstance(outcome, JobOutcome):  # which holds the latest notes, and ends the draft
                for field in RUNNING_FIELDS:
                    self._fields.pop((execution.execution_id, field), None)
            self._outcomes[execution.execution_id] = (execution, outcome)
            self._urgent = True
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
        self._thread.join(DISCARD_SECONDS if discard else None)

    def _wake_if_idle(self) -> None:
        if not self._events and not self._fields:  # else the thread is awake, or waits for its next round trip
            self._changed.notify()

    def _loop(self) -> None:
        next_at, delay = 0.0, MIN_RETRY_SECONDS
        while self._wait(until=next_at):
            next_at = time.monotonic() + self._tick_seconds
            try:
                self._write()
                delay = MIN_RETRY_SECONDS
            except Exception as error:  # also a defect: without this thread no job would end
                if delay == MIN_RETRY_SECONDS:
                    name, expected = type(error).__name__, isinstance(error, RedisError | OSError)
                    log.warning(
                        "Valkey cannot be written (%s); %d results wait", name, self.pending, exc_info=not expected
                    )
                with self._changed:
                    self._changed.wait_for(lambda: self._discard, delay)
                delay = min(2 * delay, MAX_RETRY_SECONDS)

    def _wait(self, *, until: float) -> bool:
        """Wait until there is something to write, and until that time unless it is urgent. False: the thread ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._fields or self._outcomes or self._closed)
            self._changed.wait_for(lambda: self._urgent or self._closed, max(0.0, until - time.monotonic()))
            return not self._discard and bool(self._events or self._fields or self._outcomes)

    def _write(self) -> None:
        """Write the oldest of what waits. Raises RedisError, OSError; what was not written waits on."""
        with self._changed:
            buffers = dict(islice(self._events.items(), MAX_BATCH))
            fields = list(self._fields.items())
            # Without the outcomes of jobs whose events are not in this batch.
            ready = (pair for key, pair in self._outcomes.items() if key in buffers or key not in self._events)
            outcomes = list(islice(ready, MAX_BATCH))
            self._urgent = len(self._events) > len(buffers) or len(self._outcomes) > len(outcomes)
        writes: list[_Write] = [
            (buffer.job_id, call, buffer.confirm) for buffer in buffers.values() if (call := buffer.next_call())
        ]
        for (key, field), (execution, value) in fields:
            call = self._transitions.save_call(execution, field, value)
            writes.append((execution.job_id, call, partial(self._end_field, (key, field), value)))
        for execution, outcome in outcomes:
            call = self._transitions.finish_call(execution, outcome)
            writes.append((execution.job_id, call, partial(self._end_outcome, execution, outcome)))
        self._run(writes)
        with self._changed:
            for key, buffer in buffers.items():
                del self._events[key]
                if not buffer.is_empty:
                    self._events[key] = buffer  # behind those of other jobs

    def _run(self, writes: list[_Write]) -> None:
        """Run calls, and hand the reply of each on: None for a call that Valkey refused for good."""
        replies = run_all(self._transitions.valkey, [call for _, call, _ in writes], scripts=JOB_WRITE_SCRIPTS)
        retry_for: RedisError | None = None
        for (job_id, call, settle), reply in zip(writes, replies, strict=True):
            if not isinstance(reply, RedisError):
                settle(reply)
            elif _is_permanent(reply):
                log.error("job %s: %s was refused: %s", job_id, call.script.name, reply)
                settle(None)
            else:
                retry_for = reply
        if retry_for is not None:
            raise retry_for

    def _end_field(self, key: tuple[str, RunningField], value: bytes, _reply: object) -> None:
        with self._changed:
            execution, waiting = self._fields.get(key, (None, b""))
            if waiting is value:  # else it was replaced
                del self._fields[key]
        if execution is not None and waiting is value and key[1] == "draft":
            self._on_draft_written(execution.job_id)

    def _end_outcome(self, execution: ExecutionRef, outcome: JobOutcome | HandBack, reply: int | None) -> None:
        with self._changed:
            del self._outcomes[execution.execution_id]
        self._on_written(execution, outcome, bool(reply))


def _is_permanent(error: RedisError) -> bool:
    """Return True if a repeat would fail as well: the command is at fault, not the state of the server."""
    temporary = isinstance(error, OutOfMemoryError | ReadOnlyError | NoScriptError) or str(error).startswith(_TEMPORARY)
    return isinstance(error, ResponseError) and not temporary
