"""Writing the events of a job (`client.rq.event_stream`), for the process that runs the job."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson
from redis import Redis
from redis.exceptions import RedisError

from client.rq.event_stream import ENDING
from client.rq.scripts import load_script
from client.valkey import keys
from client.valkey.scripts import ScriptCall

# The events of an ended job are kept as long as its result. The events of a job that never ends are kept for this time
# and, once an event was written, the time that results are kept.
UNENDED_SECONDS = 7 * 86_400
MAX_EVENTS = 10_000
MAX_PENDING = 2_000
RETRY_SECONDS = 1.0

WRITE_EVENTS: Final = load_script("write_events")


class EventBuffer:
    """The events of one attempt at a job that are not in Valkey yet, in order: MAX_PENDING at most.

    One thread may add events while another thread writes them: it runs `next_call`, and confirms the reply. After a
    call without a reply, as when the connection broke, the next call has the same events and those added since, and
    the script skips the events that are in Valkey. The first call has nothing to tell it by: its events may be there
    twice, but begin with `started`, by which readers start again.
    """

    def __init__(self, job_id: str, *, result_ttl_seconds: int, attempt: int | None = None) -> None:
        self.attempt = attempt  # must be known before the first call
        self.job_id = job_id
        self._ttl_seconds = result_ttl_seconds + UNENDED_SECONDS
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._called: list[str | bytes] = []  # kind and data of each event of the calls that have no reply yet
        self._last_id = b""
        self.is_latest = True  # False when another attempt runs the job, or the job has ended

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event, unless nobody will write it. Raises ValueError for a text that UTF-8 cannot hold."""
        if self.is_latest and len(self._waiting) + len(self._called) // 2 < MAX_PENDING:
            self._waiting.append((kind, _encode(data)))

    @property
    def is_empty(self) -> bool:
        """True when every event was written or dropped."""
        return not self._waiting and not self._called

    def next_call(self) -> ScriptCall | None:
        """Return the call that writes all events; None if no event waits. The attempt is the data of `started`."""
        after = self._last_id if self._called else b""
        while self._waiting:
            kind, data = self._waiting.popleft()
            self._called += (kind, json.dumps({"attempt": self.attempt}) if kind == "started" else data)
        if not self._called:
            return None
        arguments: list[Any] = [self.attempt, self.job_id, self._ttl_seconds, MAX_EVENTS, after]
        script_keys = [keys.job(self.job_id), keys.events(self.job_id)]
        return ScriptCall(WRITE_EVENTS, script_keys, arguments + self._called)

    def confirm(self, last_id: bytes | None) -> None:
        """Note that the call was carried out. None: the attempt may not write events, or the call was refused."""
        self._called = []
        if last_id is None:
            self.is_latest = False
            self._waiting.clear()
        else:
            self._last_id = last_id


def _encode(data: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError as error:  # a lone surrogate
        raise ValueError(str(error)) from None


class EventWriter:
    """Writes the events of one attempt at a job, for a worker of RQ.

    An unreachable Valkey does not make the job fail: events that cannot be written are kept, in order, and written
    before the next event.

    `begin` returns the number of this attempt, 0 when the job is another worker's, and may raise RedisError. Without
    `begin`, the writer counts the attempt itself.
    """

    def __init__(
        self, valkey: Redis, job_id: str, *, result_ttl_seconds: int, begin: Callable[[], int] | None = None
    ) -> None:
        self._valkey = valkey
        self._job_id = job_id
        self._begin = begin or self._count_attempt
        self._result_ttl_seconds = result_ttl_seconds
        self._buffer = EventBuffer(job_id, result_ttl_seconds=result_ttl_seconds)
        self._retry_at = 0.0

    @property
    def attempt(self) -> int | None:
        """The number of this attempt at the job, from 1; None until Valkey could be reached."""
        return self._buffer.attempt

    def start(self) -> None:
        """Write that this attempt starts. Readers forget the events of earlier attempts."""
        self.write("started", {})

    def write(self, kind: str, data: dict[str, Any]) -> bool:
        """Append an event. Returns False when another attempt runs the job."""
        self._buffer.add(kind, data)
        if time.monotonic() >= self._retry_at:
            self._flush()
        return self._buffer.is_latest

    def close(self) -> None:
        """Write the pending events, and wake the waiting tasks: the worker is about to write how the job ended."""
        try:
            self._flush()
            pipeline = self._valkey.pipeline(transaction=False)
            pipeline.expire(keys.events(self._job_id), self._result_ttl_seconds)
            pipeline.publish(keys.WAKE_CHANNEL, f"{self._job_id}{ENDING}")
            pipeline.execute()
        except (RedisError, OSError):
            return

    def _flush(self) -> None:
        try:
            if self._buffer.attempt is None:
                self._buffer.attempt = self._begin()
            while call := self._buffer.next_call():
                self._buffer.confirm(call.run(self._valkey))
        except (RedisError, OSError):
            self._retry_at = time.monotonic() + RETRY_SECONDS

    def _count_attempt(self) -> int:
        return int(self._valkey.hincrby(keys.job(self._job_id), "attempts", 1))
