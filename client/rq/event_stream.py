"""What happens to a job, as one append-only stream in Valkey per job, and who waits for it.

A job's events are written by the process that runs it and read by any API process, from any place in the stream, also
after the job has ended. The last event, how the job ended, is not in the stream: it is read from the job itself, so
that it can neither be missing nor come twice, whichever way the job ended.

Readers do not poll and do not hold a connection each: a writer also publishes the job's id on one channel, to which
each API process listens once, and only those who wait for that job then read its stream.
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

from schemas import Event

log = logging.getLogger("events")

WAKE_CHANNEL: Final = "rag:wake"
# After an id on the channel: the job's function has returned, and its worker is about to write that down.
ENDING: Final = " ending"
# Kept as long as the result once the job has ended; so long at the most when it never does.
UNENDED_SECONDS = 7 * 86_400
MAX_EVENTS = 10_000
MAX_PENDING = 2_000
RETRY_SECONDS = 1.0
PAGE_EVENTS = 500
LISTEN_SECONDS = 30.0
RECONNECT_SECONDS = 0.5
# A look now and then at a job of which nothing is heard: its worker may have died.
LOOK_SECONDS = 15.0
# How often to look at a job that is about to end, at first and at the most, in seconds.
FIRST_LOOK_SECONDS = 0.02
LAST_LOOK_SECONDS = 0.5
FIRST = "0-0"
ID_PATTERN = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
# Both parts of an id; nothing can come after this one, and Valkey refuses to look.
LAST_PART = 2**64 - 1

# Written only by the attempt that runs the job now: what an attempt given up for dead still says is left out.
_WRITE = """
if redis.call('HGET', KEYS[1], 'status') ~= 'started' or redis.call('HGET', KEYS[1], 'attempts') ~= ARGV[1] then
    return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'type', ARGV[5], 'data', ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[2], ARGV[7])
return 1
"""

# For the script that submits: the first event of every job, with its place in the queue, if it has one yet.
TELL_QUEUED = """
local function tell_queued(events, queue, job, seconds)
  local list = 'rq:queue:' .. queue
  local at_end = redis.call('LINDEX', list, -1) == job
  local place = at_end and redis.call('LLEN', list) - 1 or redis.call('LPOS', list, job)
  local data = place and '{"position": ' .. place + 1 .. '}' or '{}'
  redis.pcall('XADD', events, '1-0', 'type', 'queued', 'data', data)
  redis.call('EXPIRE', events, seconds)
end
"""


def events_key(job_id: str) -> str:
    """Return the key of a job's stream."""
    return f"rag:events:{job_id}"


def is_event_id(text: str) -> bool:
    """Tell whether there can be events after one with this id."""
    found = ID_PATTERN.fullmatch(text)
    if found is None:
        return False
    parts = [int(part) for part in found.groups()]
    return max(parts) <= LAST_PART and min(parts) < LAST_PART


class EventWriter:
    """Writes the events of one attempt at a job, for the worker that runs it.

    A job does not wait for Valkey nor fail because of it: what cannot be written is kept, in order, and written with
    what comes next.

    `begin` says which attempt at the job this is, 0 when it is another's; it may raise RedisError. Without it, this is
    one more.
    """

    def __init__(
        self, valkey: Redis, job_id: str, *, result_ttl_seconds: int, begin: Callable[[], int] | None = None
    ) -> None:
        self._valkey = valkey
        self._job_id = job_id
        self._begin = begin or self._count
        self._result_ttl_seconds = result_ttl_seconds
        self._attempt: int | None = None
        self._pending: list[tuple[str, dict[str, Any]]] = []
        self._retry_at = 0.0
        self._ours = True

    @property
    def attempt(self) -> int | None:
        """Which attempt at the job this is, from 1; None while Valkey is away."""
        return self._attempt

    def start(self) -> None:
        """Say that this attempt begins, or begins anew; what was said before is to be forgotten."""
        self.write("started", {})

    def write(self, kind: str, data: dict[str, Any]) -> bool:
        """Append an event. False when this attempt no longer runs the job."""
        if self._ours and len(self._pending) < MAX_PENDING:
            self._pending.append((kind, data))
        if time.monotonic() >= self._retry_at:
            self._flush()
        return self._ours

    def close(self) -> None:
        """Write what is left, and wake those who wait: the worker is about to write down how the job ended."""
        try:
            self._flush()
            pipeline = self._valkey.pipeline(transaction=False)
            pipeline.expire(events_key(self._job_id), self._result_ttl_seconds)
            pipeline.publish(WAKE_CHANNEL, f"{self._job_id}{ENDING}")
            pipeline.execute()
        except (RedisError, OSError):
            return

    def _flush(self) -> None:
        try:
            if self._attempt is None:
                self._attempt = self._begin()
            while self._pending and self._ours:
                self._ours = self._append(*self._pending[0], attempt=self._attempt)
                self._pending.pop(0)
        except (RedisError, OSError):
            self._retry_at = time.monotonic() + RETRY_SECONDS

    def _count(self) -> int:
        return int(self._valkey.hincrby(_job_key(self._job_id), "attempts", 1))

    def _append(self, kind: str, data: dict[str, Any], *, attempt: int) -> bool:
        if kind == "started":
            data = {"attempt": attempt}
        kept = self._result_ttl_seconds + UNENDED_SECONDS
        text = json.dumps(data, ensure_ascii=False)
        arguments = [str(attempt), WAKE_CHANNEL, str(kept), str(MAX_EVENTS), kind, text, self._job_id]
        return bool(self._valkey.eval(_WRITE, 2, _job_key(self._job_id), events_key(self._job_id), *arguments))


def _job_key(job_id: str) -> str:
    return f"rq:job:{job_id}"


def parse_events(entries: Iterable[Any]) -> list[Event]:
    """Read stream entries; what cannot be read is left out."""
    events = []
    for entry_id, fields in entries:
        with suppress(ValueError, KeyError, UnicodeDecodeError):
            data = json.loads(fields[b"data"])
            events.append(Event(id=entry_id.decode(), type=fields[b"type"].decode(), data=data))
    return events


class JobSubscription:
    """One task's wait for one job."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._look_again = FIRST_LOOK_SECONDS  # it may have been about to end when this began

    async def wait(self, seconds: float) -> None:
        """Return when there may be something new to read, `seconds` from now at the latest."""
        longest = min(seconds, self._look_again or LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  spreads load
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._woken.wait()
        if not self._woken.is_set():
            self._look_again = self._look_again * 2 if self._look_again < LAST_LOOK_SECONDS else 0.0
        self._woken.clear()

    def wake(self, *, ending: bool) -> None:
        """Tell that something happened; `ending` that what happens next will not be told."""
        if ending:
            self._look_again = FIRST_LOOK_SECONDS
        self._woken.set()


class JobNotifier:
    """Wakes the tasks of this process that wait for a job, through one subscription.

    `closing`: this process is about to end, and nobody waits any more.
    """

    def __init__(self, valkey: aioredis.Redis) -> None:
        self._valkey = valkey
        self._waiting: dict[str, set[JobSubscription]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self.closing = False

    def release_waiters(self) -> None:
        """Wake everybody for good: who waits looks a last time, and sees that it is `closing`."""
        self.closing = True
        for watches in self._waiting.values():
            for watch in watches:
                watch.wake(ending=False)

    @asynccontextmanager
    async def subscribe(self, job_id: str) -> AsyncIterator[JobSubscription]:
        """Give a watch that wakes whenever something happens to the job, or may have happened unheard."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="wakeups")
        watch = JobSubscription()
        self._waiting[job_id].add(watch)
        try:
            yield watch
        finally:
            self._waiting[job_id].discard(watch)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def close(self) -> None:
        """Stop listening."""
        while self._listener is not None and not self._listener.done():
            self._listener.cancel()  # while it subscribes, redis-py may take this for a time-out, and it goes on
            await asyncio.wait([self._listener], timeout=RECONNECT_SECONDS)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._valkey.pubsub(ignore_subscribe_messages=False) as channel:
                    await channel.subscribe(WAKE_CHANNEL)
                    while True:
                        message = await channel.get_message(timeout=LISTEN_SECONDS)
                        if message is not None:
                            self._hear(message)
            except (RedisError, OSError) as error:
                log.warning("listening for events failed (%s); trying again", type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            said = message["data"].decode(errors="replace")
            for watch in self._waiting.get(said.removesuffix(ENDING), ()):
                watch.wake(ending=said.endswith(ENDING))
        elif message["type"] == "subscribe":  # what was said before was not heard: everybody looks, and again soon
            for watches in self._waiting.values():
                for watch in watches:
                    watch.wake(ending=True)
