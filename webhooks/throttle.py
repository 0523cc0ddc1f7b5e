"""Keeping a receiver that hangs from holding up everybody's webhooks.

An attempt at a receiver that takes the whole time limit holds a worker's place for 15 s. After one did, that receiver
gets one attempt at a time, with a pause after each, until it answers again; the others come back a little later,
without one of their attempts being used up. A user of such a receiver, who may have many more, has two attempts
at a time in all: the other places are for the other users.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from redis import Redis

from client.valkey import keys
from client.valkey.scripts import load
from webhooks.models import make_id
from webhooks.sender import ATTEMPT_SECONDS, Outcome
from webhooks.store import reachable

SLOW_SECONDS: Final = 120
PAUSE_SECONDS: Final = 15
PROBE_SECONDS: Final = ATTEMPT_SECONDS + 5


# How many attempts may be made at once for a user with a slow receiver.
MOST_HELD: Final = 2

_START_ATTEMPT: Final = load(Path(__file__).parent / "lua" / "start_attempt.lua")


class Pace:
    """The pace of a delivery: at one receiver, all URLs of one host and port, and of one user."""

    def __init__(self, valkey: Redis, url: str, *, owner: str = "local", delivery_id: str = "") -> None:
        self._valkey = valkey
        self._delivery_id = delivery_id
        receiver = make_id(urlsplit(url).netloc.lower())
        self._slow = keys.slow_receiver(receiver)
        self._probe = keys.receiver_probe(receiver)
        self._held = keys.held_owner(owner)
        self._trying = keys.owner_attempts(owner)

    def may_try(self) -> bool:
        """Ask to make an attempt now. After True, `tried` must say how it went."""
        script_keys = (self._slow, self._probe, self._held, self._trying)
        arguments = (self._delivery_id, time.time(), PROBE_SECONDS, MOST_HELD)
        with reachable():
            return bool(_START_ATTEMPT.call(self._valkey, script_keys, arguments))

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
