"""The events of a job, one append-only stream per job, and the tasks that wait for a job.

The process that runs a job writes its events (`client.rq.event_writer`); any API process reads them, from any place in
the stream, also after the job has ended. The last event says how the job ended. This event is not in the stream but is
made from the job's record: so every ended job has exactly one last event, even a job whose worker was killed.

Readers neither poll nor hold a connection each. A writer also publishes the job's id on one channel. Each API process
listens to that channel once, and only the tasks that wait for that job then read its stream.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
import re
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn, Self

import redis.asyncio as aioredis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as ValkeyTimeoutError

from client.valkey import keys
from schemas import Event

log = logging.getLogger("events")

# Published after a job's id under a worker of RQ, which itself announces no end: the job's function has returned, and
# its worker is about to write how the job ended.
ENDING: Final = " ending"
PAGE_EVENTS = 500
# A subscription on which nothing has come for this time is pinged; after so many silent periods more it is given up,
# since a peer that vanished without a word never closes its connection.
PING_SECONDS = 0.7
SILENT_PINGS = 2
RECONNECT_SECONDS = 0.5
# While Valkey is away, one task of this process asks so often whether Valkey is back, for all that wait for a job.
RETURN_POLL_SECONDS = 0.25
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


def is_event_id(text: str) -> bool:
    """Return True if the text is an event's id that another event can follow."""
    match = ID_PATTERN.fullmatch(text)
    if match is None:
        return False
    parts = [int(part) for part in match.groups()]
    return max(parts) <= MAX_ID_PART and min(parts) < MAX_ID_PART


def parse_events(entries: Iterable[Any]) -> list[Event]:
    """Return the events of stream entries, without unreadable entries."""
    events = []
    for entry_id, fields in entries:
        with suppress(ValueError, KeyError, UnicodeDecodeError):
            data = json.loads(fields[b"data"])
            events.append(Event(id=entry_id.decode(), type=fields[b"type"].decode(), data=data))
    return events


class JobSubscription:
    """One task's subscription to one job, until the end of a `with` block.

    Thousands may wait at a time: a future takes 1.5 KB less than an asyncio.Event with a time-out.
    """

    __slots__ = ("_end", "_next_poll", "_waiter", "_woken")

    def __init__(self, end: Callable[[JobSubscription], None]) -> None:
        self._end = end
        self._next_poll = 0.0
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._end(self)

    async def wait(self, seconds: float) -> None:
        """Return when there may be something new to read, `seconds` from now at the latest."""
        if not self._woken:
            longest = min(seconds, self._next_poll or POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  spreads load
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(longest, self._end_wait)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if not self._woken:
            self._next_poll = self._next_poll * 2 if self._next_poll < LAST_POLL_SECONDS else 0.0
        self._woken = False

    def poll_soon(self) -> None:
        """Poll the job for a moment: that it is about to end may have been announced before the subscription."""
        self._next_poll = FIRST_POLL_SECONDS

    def wake(self, *, ending: bool) -> None:
        """Wake the task. `ending`: the next change will not be announced, so that the job is polled for a moment."""
        if ending:
            self.poll_soon()
        self._woken = True
        self._end_wait()

    def _end_wait(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _start(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    """Start a task of the process. It does not inherit the ids that log lines have in the request that starts it."""
    return asyncio.create_task(work, name=name, context=contextvars.Context())


class JobNotifier:
    """Wakes the tasks of this process that wait for a job, through one subscription to the channel.

    `closing`: True when this process is about to end; no task waits then.
    """

    def __init__(self, valkey: aioredis.Redis) -> None:
        self._valkey = valkey
        self._subscriptions: dict[str, set[JobSubscription]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self._listening_failed = False
        self._cut_off: set[JobSubscription] = set()
        self._return_watch: asyncio.Task[None] | None = None
        self.closing = False

    def release_waiters(self) -> None:
        """Set `closing` and wake all tasks: each reads its job a last time."""
        self.closing = True
        self._wake_all(ending=False)

    def subscribe(self, job_id: str) -> JobSubscription:
        """Return a subscription that wakes when the job changes, and when an announcement may have been missed."""
        if self._listener is None:
            self._listener = _start(self._listen(), name="job-notifier")
        subscription = JobSubscription(partial(self._unsubscribe, job_id))
        self._subscriptions[job_id].add(subscription)
        return subscription

    def _unsubscribe(self, job_id: str, subscription: JobSubscription) -> None:
        self._cut_off.discard(subscription)
        self._subscriptions[job_id].discard(subscription)
        if not self._subscriptions[job_id]:
            del self._subscriptions[job_id]

    def wake_on_return(self, subscription: JobSubscription) -> None:
        """Wake a task whose read failed as soon as Valkey answers again."""
        self._cut_off.add(subscription)
        if self._return_watch is None or self._return_watch.done():
            self._return_watch = _start(self._wait_for_return(), name="valkey-return")

    async def close(self) -> None:
        """Stop listening."""
        for task in (self._listener, self._return_watch):
            while task is not None and not task.done():
                task.cancel()  # during a subscribe redis-py may take the cancellation for a time-out and go on
                await asyncio.wait([task], timeout=RECONNECT_SECONDS)

    async def _wait_for_return(self) -> None:
        while self._cut_off:
            await asyncio.sleep(RETURN_POLL_SECONDS)
            with suppress(RedisError, OSError, RuntimeError):
                await self._valkey.ping()
                for subscription in self._cut_off:
                    subscription.wake(ending=True)  # announcements may have been missed
                self._cut_off.clear()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._valkey.pubsub(ignore_subscribe_messages=False) as channel:
                    await channel.subscribe(keys.WAKE_CHANNEL)
                    await self._receive_all(channel)
            except (RedisError, OSError, RuntimeError) as error:  # RuntimeError: of uvloop, for a closed connection
                if not self._listening_failed:
                    log.warning("listening for events failed (%s); trying again", type(error).__name__)
                self._listening_failed = True
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _receive_all(self, channel: PubSub) -> NoReturn:
        """Receive messages until the connection breaks, or nothing comes on it. Raises RedisError, OSError."""
        pings = 0
        while True:
            message = await channel.get_message(timeout=PING_SECONDS)
            if message is not None:
                pings = 0
                self._listening_failed = False
                self._receive(message)
            elif pings < SILENT_PINGS:
                pings += 1
                await channel.ping()
            else:
                raise ValkeyTimeoutError("nothing comes on the connection")

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
