"""The events of a job, one append-only stream per job, and the tasks that wait for a job.

The process that runs a job writes its events; any API process reads them, from any place in the stream, also after the
job has ended. The last event says how the job ended. This event is not in the stream but is made from the job's record:
so every ended job has exactly one last event, even a job whose worker was killed.

Readers neither poll nor hold a connection each. A writer also publishes the job's id on one channel. Each API process
listens to that channel once, and only the tasks that wait for that job then read its stream.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import redis.asyncio as aioredis
from redis import Redis
from redis.exceptions import RedisError

from client.rq.scripts import load_script
from client.valkey import keys
from schemas import Event

log = logging.getLogger("events")

# Published after a job's id: the job's function has returned, and its worker is about to write how the job ended.
ENDING: Final = " ending"
# The events of an ended job are kept as long as its result. The events of a job that never ends are kept for this time
# and, once an event was written, the time that results are kept.
UNENDED_SECONDS = 7 * 86_400
MAX_EVENTS = 10_000
MAX_PENDING = 2_000
RETRY_SECONDS = 1.0
PAGE_EVENTS = 500
LISTEN_SECONDS = 30.0
RECONNECT_SECONDS = 0.5
# A job without news is read again after this long: its worker may have died.
POLL_SECONDS = 15.0
# A job that is about to end is read again after 20 ms, then after twice as long each time, up to 0.5 s.
FIRST_POLL_SECONDS = 0.02
LAST_POLL_SECONDS = 0.5
# The id that precedes every event.
BEFORE_FIRST_ID = "0-0"
ID_PATTERN = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
# The largest number in an event's id. Valkey refuses to search after an id of two such numbers: no id can follow.
MAX_ID_PART = 2**64 - 1

_WRITE: Final = load_script("write_event")


def is_event_id(text: str) -> bool:
    """Return True if the text is an event's id that another event can follow."""
    match = ID_PATTERN.fullmatch(text)
    if match is None:
        return False
    parts = [int(part) for part in match.groups()]
    return max(parts) <= MAX_ID_PART and min(parts) < MAX_ID_PART


class EventWriter:
    """Writes the events of one attempt at a job, for the worker that runs it.

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
        self._attempt: int | None = None
        self._pending: list[tuple[str, dict[str, Any]]] = []
        self._retry_at = 0.0
        self._is_latest = True

    @property
    def attempt(self) -> int | None:
        """The number of this attempt at the job, from 1; None until Valkey could be reached."""
        return self._attempt

    def start(self) -> None:
        """Write that this attempt starts. Readers forget the events of earlier attempts."""
        self.write("started", {})

    def write(self, kind: str, data: dict[str, Any]) -> bool:
        """Append an event. Returns False when another attempt runs the job."""
        if self._is_latest and len(self._pending) < MAX_PENDING:
            self._pending.append((kind, data))
        if time.monotonic() >= self._retry_at:
            self._flush()
        return self._is_latest

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
            if self._attempt is None:
                self._attempt = self._begin()
            while self._pending and self._is_latest:
                self._is_latest = self._append(*self._pending[0], attempt=self._attempt)
                self._pending.pop(0)
        except (RedisError, OSError):
            self._retry_at = time.monotonic() + RETRY_SECONDS

    def _count_attempt(self) -> int:
        return int(self._valkey.hincrby(keys.job(self._job_id), "attempts", 1))

    def _append(self, kind: str, data: dict[str, Any], *, attempt: int) -> bool:
        if kind == "started":
            data = {"attempt": attempt}
        ttl_seconds = self._result_ttl_seconds + UNENDED_SECONDS
        text = json.dumps(data, ensure_ascii=False)
        arguments = [str(attempt), self._job_id, str(ttl_seconds), str(MAX_EVENTS), kind, text]
        return bool(_WRITE.call(self._valkey, [keys.job(self._job_id), keys.events(self._job_id)], arguments))


def parse_events(entries: Iterable[Any]) -> list[Event]:
    """Return the events of stream entries, without unreadable entries."""
    events = []
    for entry_id, fields in entries:
        with suppress(ValueError, KeyError, UnicodeDecodeError):
            data = json.loads(fields[b"data"])
            events.append(Event(id=entry_id.decode(), type=fields[b"type"].decode(), data=data))
    return events


class JobSubscription:
    """One task's subscription to one job."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._next_poll = FIRST_POLL_SECONDS  # the job may be about to end already

    async def wait(self, seconds: float) -> None:
        """Return when there may be something new to read, `seconds` from now at the latest."""
        longest = min(seconds, self._next_poll or POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  spreads load
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._woken.wait()
        if not self._woken.is_set():
            self._next_poll = self._next_poll * 2 if self._next_poll < LAST_POLL_SECONDS else 0.0
        self._woken.clear()

    def wake(self, *, ending: bool) -> None:
        """Wake the task. `ending`: the next change will not be announced, so that the job is polled for a moment."""
        if ending:
            self._next_poll = FIRST_POLL_SECONDS
        self._woken.set()


class JobNotifier:
    """Wakes the tasks of this process that wait for a job, through one subscription to the channel.

    `closing`: True when this process is about to end; no task waits then.
    """

    def __init__(self, valkey: aioredis.Redis) -> None:
        self._valkey = valkey
        self._subscriptions: dict[str, set[JobSubscription]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self.closing = False

    def release_waiters(self) -> None:
        """Set `closing` and wake all tasks: each reads its job a last time."""
        self.closing = True
        self._wake_all(ending=False)

    @asynccontextmanager
    async def subscribe(self, job_id: str) -> AsyncIterator[JobSubscription]:
        """Yield a subscription that wakes when the job changes, and when an announcement may have been missed."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="job-notifier")
        subscription = JobSubscription()
        self._subscriptions[job_id].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[job_id].discard(subscription)
            if not self._subscriptions[job_id]:
                del self._subscriptions[job_id]

    async def close(self) -> None:
        """Stop listening."""
        while self._listener is not None and not self._listener.done():
            self._listener.cancel()  # during a subscribe redis-py may take the cancellation for a time-out and go on
            await asyncio.wait([self._listener], timeout=RECONNECT_SECONDS)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._valkey.pubsub(ignore_subscribe_messages=False) as channel:
                    await channel.subscribe(keys.WAKE_CHANNEL)
                    while True:
                        message = await channel.get_message(timeout=LISTEN_SECONDS)
                        if message is not None:
                            self._receive(message)
            except (RedisError, OSError) as error:
                log.warning("listening for events failed (%s); trying again", type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            text = message["data"].decode(errors="replace")
            for subscription in self._subscriptions.get(text.removesuffix(ENDING), ()):
                subscription.wake(ending=text.endswith(ENDING))
        elif message["type"] == "subscribe":  # earlier announcements were missed: every task reads its job, and polls
            self._wake_all(ending=True)

    def _wake_all(self, *, ending: bool) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.wake(ending=ending)
