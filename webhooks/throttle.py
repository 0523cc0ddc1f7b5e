"""Keeping a receiver that hangs from holding up everybody's webhooks.

An attempt at a receiver that takes the whole time limit holds a worker's place for 15 s. After one did, that receiver
gets one attempt at a time, with a pause after each, until it answers again; the others come back a little later,
without one of their attempts being used up. A user of such a receiver, who may have many more, has two attempts
at a time in all: the other places are for the other users.

    rag:webhook:slow:{receiver}    it did not answer in time
    rag:webhook:probe:{receiver}   an attempt at a slow one is being made, or was just now
    rag:webhook:held:{owner}       a receiver of theirs did not answer in time
    rag:webhook:trying:{owner}     their attempts that are being made, by when they began
"""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import urlsplit

from redis import Redis

from client.rq.outbox import PREFIX
from client.valkey.keys import quoted
from webhooks.models import make_id
from webhooks.sender import ATTEMPT_SECONDS, Outcome
from webhooks.store import reachable

SLOW_SECONDS: Final = 120
PAUSE_SECONDS: Final = 15
PROBE_SECONDS: Final = ATTEMPT_SECONDS + 5


# How many attempts a user makes at once, of whom a receiver hung of late.
MOST_HELD: Final = 2

# KEYS: slow, probe, held, trying. ARGV: delivery, now in Unix seconds, seconds of a probe, most attempts.
_TRY: Final = """
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[2] - ARGV[3])
local held = redis.call('EXISTS', KEYS[3]) == 1
if held and redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[4]) then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 and not redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[3])
return 1
"""


class Pace:
    """The pace of a delivery: at one receiver, all URLs of one host and port, and of one user."""

    def __init__(self, valkey: Redis, url: str, *, owner: str = "local", delivery_id: str = "") -> None:
        self._valkey = valkey
        self._delivery_id = delivery_id
        receiver = make_id(urlsplit(url).netloc.lower())
        self._slow = f"{PREFIX}slow:{receiver}"
        self._probe = f"{PREFIX}probe:{receiver}"
        self._held = f"{PREFIX}held:{quoted(owner)}"
        self._trying = f"{PREFIX}trying:{quoted(owner)}"

    def may_try(self) -> bool:
        """Ask to make an attempt now. After True, `tried` must say how it went."""
        keys = (self._slow, self._probe, self._held, self._trying)
        with reachable():
            return bool(
                self._valkey.eval(_TRY, len(keys), *keys, self._delivery_id, time.time(), PROBE_SECONDS, MOST_HELD)
            )

    def tried(self, outcome: Outcome) -> None:
        """Take note of how an attempt went."""
        with reachable(), self._valkey.pipeline() as pipeline:
            pipeline.zrem(self._trying, self._delivery_id)
            if outcome.timed_out:
                pipeline.set(self._slow, "1", ex=SLOW_SECONDS)
                pipeline.set(self._probe, "1", ex=PAUSE_SECONDS)
                pipeline.set(self._held, "1", ex=SLOW_SECONDS)
            else:
                pipeline.delete(self._slow, self._probe)
            pipeline.execute()
