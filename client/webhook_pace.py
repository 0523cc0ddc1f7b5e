"""Keeping a receiver that hangs from holding up everybody's webhooks.

An attempt at a receiver that takes the whole time limit holds a worker's place for 15 s. After one did, that receiver
gets one attempt at a time, with a pause after each, until it answers again; the others come back a little later,
without one of their attempts being used up.

    rag:webhook:slow:{receiver}    it did not answer in time
    rag:webhook:probe:{receiver}   an attempt at a slow one is being made, or was just now
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from redis import Redis

from client.webhook_records import PREFIX, make_id
from client.webhook_sender import ATTEMPT_SECONDS, Outcome
from client.webhook_store import reachable

SLOW_SECONDS: Final = 120
PAUSE_SECONDS: Final = 15
PROBE_SECONDS: Final = ATTEMPT_SECONDS + 5


class Pace:
    """The pace at one receiver: all URLs of one host and port."""

    def __init__(self, valkey: Redis, url: str) -> None:
        self._valkey = valkey
        receiver = make_id(urlsplit(url).netloc.lower())
        self._slow = f"{PREFIX}slow:{receiver}"
        self._probe = f"{PREFIX}probe:{receiver}"

    def may_try(self) -> bool:
        """Ask to make an attempt now. After True, `tried` must say how it went."""
        with reachable():
            return not self._valkey.exists(self._slow) or bool(
                self._valkey.set(self._probe, "1", nx=True, ex=PROBE_SECONDS)
            )

    def tried(self, outcome: Outcome) -> None:
        """Take note of how an attempt went."""
        with reachable(), self._valkey.pipeline() as pipeline:
            if outcome.timed_out:
                pipeline.set(self._slow, "1", ex=SLOW_SECONDS)
                pipeline.set(self._probe, "1", ex=PAUSE_SECONDS)
            else:
                pipeline.delete(self._slow, self._probe)
            pipeline.execute()
