"""What is to be told when a job ends, written down before the job is put on its queue.

rag:webhook:pending        intents by the time they were written
rag:webhook:intent:{job}   hash: `intent` as JSON, a field `url:...` for each URL, `seen` once its job was found
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from client.valkey.keys import quoted
from schemas import Frozen

PREFIX: Final = "rag:webhook:"
_URL: Final = "url:"
PENDING: Final = f"{PREFIX}pending"
# An owner's key holds no asterisk: it is quoted there.
EVERYBODY: Final = f"{PREFIX}endpoints:*"

# Write an intent, if there is anybody to tell. KEYS: intent, pending, endpoints of the owner, the job where it must be
# new. ARGV: job, URL or '', intent, now.
_INTEND = """
if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
if ARGV[2] == '' and redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
if ARGV[2] == '' then
  redis.call('HSETNX', KEYS[1], 'intent', ARGV[3])
else
  redis.call('HSET', KEYS[1], 'intent', ARGV[3], 'url:' .. ARGV[2], 1)
end
redis.call('ZADD', KEYS[2], 'NX', ARGV[4], ARGV[1])
return 1
"""


class Callback(Frozen):
    """Whom to tell when a job ends, beside its owner's endpoints, and what to send along. `url` empty is nobody."""

    url: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)


class OutboxEntry(Frozen):
    """What is to be told when a job ends: to the owner's endpoints, and to `urls`."""

    job_id: str
    owner: str
    urls: tuple[str, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)


def clock() -> float:
    """Return the time in Unix seconds."""
    return time.time()


def write_outbox_entry(
    pipeline: Any, job_id: str, *, owner: str, callback: Callback | None = None, new: bool = False
) -> None:
    """Add to a pipeline, sync or async, what makes the end of a job told.

    To the URL of `callback`, if there is one, and to the owner's endpoints. It does nothing where there are none.
    Several URLs add up. `new`: only if there is no such job yet.
    """
    callback = callback or Callback()
    intent = OutboxEntry(job_id=job_id, owner=owner, metadata=callback.metadata)
    keys = [outbox_key(job_id), PENDING, endpoints_key(owner)] + ([f"rq:job:{job_id}"] if new else [])
    pipeline.eval(_INTEND, len(keys), *keys, job_id, callback.url, intent.model_dump_json(), repr(clock()))


def read_outbox_entry(fields: Mapping[bytes, bytes]) -> OutboxEntry | None:
    """Read an intent from its hash; None when there is none. Raises ValueError for one that makes no sense."""
    if b"intent" not in fields:
        return None
    urls = sorted(name.decode().removeprefix(_URL) for name in fields if name.startswith(_URL.encode()))
    return OutboxEntry.model_validate_json(fields[b"intent"]).model_copy(update={"urls": tuple(urls)})


def outbox_key(job_id: str) -> str:
    """Return the key of a job's intent."""
    return f"{PREFIX}intent:{job_id}"


def endpoints_key(owner: str | None) -> str:
    """Return the key of the set of a user's endpoints; None: of everybody's."""
    if owner is None:
        return EVERYBODY
    return f"{PREFIX}endpoints:{quoted(owner)}"
