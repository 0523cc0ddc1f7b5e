"""The counts of all processes of the deployment, in one hash of Valkey: any process can show them.

Kept there, counts survive every kill and restart, count processes of all hosts, and count the jobs of a stock worker,
which run in a process of their own each. A process adds what it has counted once a second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import orjson
from redis import Redis
from redis.exceptions import RedisError

from client.valkey import keys
from client.valkey.scripts import load
from observability.metrics import COUNTS, Counts, Key

log = logging.getLogger("client.valkey")

STORE_SECONDS = 1.0
# Each metric has its own bound on labels; this one is for what many processes and releases add up to. 20,000 fields
# are 2 MB.
MAX_FIELDS = 20_000

_ADD: Final = load(Path(__file__).parent / "lua" / "add_counts.lua", {"MAX_FIELDS": MAX_FIELDS})


def add_counts(valkey: Redis, counts: Mapping[Key, int]) -> None:
    """Add counts to the stored ones. Raises RedisError, and then it is not known whether they were added."""
    arguments: list[bytes | int] = []
    for key, number in counts.items():
        arguments += (orjson.dumps(key), number)
    _ADD.call(valkey, [keys.COUNTS], arguments)


def read_counts(valkey: Redis) -> dict[Key, int]:
    """Return the counts of the deployment. What is no count is left out. Raises RedisError."""
    found: dict[Key, int] = {}
    for field, number in cast("dict[bytes, bytes]", valkey.hgetall(keys.COUNTS)).items():
        try:
            found[tuple(map(str, orjson.loads(field)))] = int(number)
        except (TypeError, ValueError):
            continue
    return found


def store_counts(valkey: Redis, counts: Counts = COUNTS) -> bool:
    """Store what this process has counted. False while Valkey is away: the counts are kept, and stored later.

    After a lost reply the same counts may be stored twice.
    """
    taken = counts.take()
    if not taken:
        return True  # without a write: an idle service must not grow Valkey's append-only file
    try:
        add_counts(valkey, taken)
    except (RedisError, OSError):
        counts.put_back(taken)
        return False
    return True


class CountsThread:
    """Stores once a second what this process has counted. Survives outages of Valkey."""

    # How many run in this process: where none does, a job stores its counts itself.
    running = 0

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="counts", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        CountsThread.running += 1
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread once it has stored the last counts."""
        self._stop.set()
        self._thread.join(10)
        CountsThread.running -= 1

    def _loop(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(STORE_SECONDS)
            try:
                store_counts(self._valkey)
            except Exception:
                log.exception("counts could not be stored: the next try follows in a second")


def store_counts_of_job(valkey: Redis | None) -> None:
    """Store the counts of a job that ran in a process without a CountsThread, such as the fork of a stock worker."""
    if valkey is not None and not CountsThread.running:
        store_counts(valkey)
