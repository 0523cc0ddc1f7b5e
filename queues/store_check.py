"""At the start of a worker: whether the vector store still holds what the list of uploads says is indexed.

A store that lost files may open all the same, with fewer points or none. Then answers would leave documents out, and
nobody would know.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from client.valkey.store_outage import end_incomplete, note_incomplete
from errors import AppError, StoreDamaged
from observability import commands
from observability.wording import counted
from queues.jobs.consistency import incomplete_uploads
from queues.wiring import Services

log = logging.getLogger("rq.worker")

# How long after a check the next one is, while anything is missing or could not be checked.
AGAIN_SECONDS = 60.0
# How many uploads a log line names.
NAMED_UPLOADS = 10


class StoreCheck:
    """Within a block, checks once, and again until nothing is missing.

    Valkey holds the number of uploads meanwhile, for `/ready`.
    """

    def __init__(self, services: Services, valkey: Redis, *, again_seconds: float = AGAIN_SECONDS) -> None:
        self._services = services
        self._valkey = valkey
        self._again_seconds = again_seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-check", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()  # a check that is being made is finished first

    def _run(self) -> None:
        named: list[str] = []
        while not self._closed.is_set():
            missing = self._missing()
            if missing is not None and not missing:
                with suppress(RedisError, OSError):
                    end_incomplete(self._valkey)
                return
            if missing:
                if missing != named:
                    _name(missing)
                named = missing
                with suppress(RedisError, OSError):
                    note_incomplete(self._valkey, len(missing), seconds=int(3 * self._again_seconds))
            self._closed.wait(self._again_seconds)

    def _missing(self) -> list[str] | None:
        """Return the ids of uploads that lack points; None if they cannot be counted now."""
        try:
            return [upload.upload_id for upload in incomplete_uploads(self._services)]
        except StoreDamaged:
            return None  # the store has logged it, and `/ready` knows
        except AppError as error:
            log.warning("the vector store was not checked: %s", error.detail)
            return None


def _name(missing: list[str]) -> None:
    shown = ", ".join(missing[:NAMED_UPLOADS]) + (", …" if len(missing) > NAMED_UPLOADS else "")
    log.error(
        "the vector store holds fewer chunks of %s than were indexed, and answers leave the rest out: run `%s audit`, "
        "which indexes the uploads again (%s)",
        counted(len(missing), "upload"),
        commands.script("main.py"),
        shown,
    )
