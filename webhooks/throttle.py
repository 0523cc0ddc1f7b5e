"""The throttle for receivers that hang, so that they do not delay everybody's webhooks.

An attempt that reaches the time limit occupies a worker thread for 15 s. After such an attempt the receiver is slow:
until it answers again, it gets one attempt at a time, with a pause after each. Its other deliveries are rescheduled
without losing an attempt. The owner of a slow receiver may have many receivers, so all deliveries of that
owner together get two attempts at a time; the other threads serve the other users.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from redis import Redis

from client.valkey import keys
from client.valkey.scripts import load
from webhooks.models import stable_id
from webhooks.sender import ATTEMPT_SECONDS, Outcome
from webhooks.store import translated_errors

SLOW_SECONDS: Final = 120
PAUSE_SECONDS: Final = 15
PROBE_SECONDS: Final = ATTEMPT_SECONDS + 5
# How many attempts may be made at once for a user with a slow receiver.
MAX_SLOW_OWNER_ATTEMPTS: Final = 2

_START_ATTEMPT: Final = load(Path(__file__).parent / "lua" / "start_attempt.lua")


class ReceiverThrottle:
    """Decides whether a delivery may make an attempt now. All URLs of one host and port are one receiver."""

    def __init__(self, valkey: Redis, url: str, *, owner: str = "local", delivery_id: str = "") -> None:
        self._valkey = valkey
        self._delivery_id = delivery_id
        receiver = stable_id(urlsplit(url).netloc.lower())
        self._slow = keys.slow_receiver(receiver)
        self._probe = keys.receiver_probe(receiver)
        self._slow_owner = keys.slow_owner(owner)
        self._attempts = keys.owner_attempts(owner)

    def start_attempt(self) -> bool:
        """Return True if an attempt may be made now. Each attempt must be followed by `end_attempt`."""
        script_keys = (self._slow, self._probe, self._slow_owner, self._attempts)
        arguments = (self._delivery_id, time.time(), PROBE_SECONDS, MAX_SLOW_OWNER_ATTEMPTS)
        with translated_errors():
            return bool(_START_ATTEMPT.call(self._valkey, script_keys, arguments))

    def end_attempt(self, outcome: Outcome) -> None:
        """Record the outcome of an attempt: a time-out makes the receiver slow, any other outcome makes it normal."""
        with translated_errors(), self._valkey.pipeline() as pipeline:
            pipeline.zrem(self._attempts, self._delivery_id)
            if outcome.timed_out:
                pipeline.set(self._slow, "1", ex=SLOW_SECONDS)
                pipeline.set(self._probe, "1", ex=PAUSE_SECONDS)
                pipeline.set(self._slow_owner, "1", ex=SLOW_SECONDS)
            else:
                pipeline.delete(self._slow, self._probe)
            pipeline.execute()
