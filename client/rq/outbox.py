"""The outbox: the receivers to notify of a job's end, written in the step that puts the job on its queue.

`webhooks.relay` turns an entry into deliveries once its job has ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from pydantic import Field
from redis import Redis

from client.rq.scripts import load_script
from client.valkey import keys
from schemas import Frozen

_URL: Final = "url:"
_WRITE: Final = load_script("write_outbox_entry")


class Callback(Frozen):
    """A URL to notify of a job's end, in addition to its owner's endpoints, and metadata to send along.

    `url` "": only the endpoints are notified.
    """

    url: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)


class OutboxEntry(Frozen):
    """The receivers to notify of a job's end: the owner's endpoints, and `urls`."""

    job_id: str
    owner: str
    urls: tuple[str, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)


def unix_now() -> float:
    """Return the time in Unix seconds."""
    return time.time()


def entry_keys(job_id: str, owner: str) -> list[str]:
    """Return the keys of the entry, of the pending entries and of the owner's endpoints, for a script."""
    return [keys.outbox_entry(job_id), keys.OUTBOX_PENDING, keys.endpoints(owner)]


def entry_arguments(job_id: str, owner: str, callback: Callback | None) -> list[str]:
    """Return the URL, the entry as JSON and the time, for a script."""
    callback = callback or Callback()
    entry = OutboxEntry(job_id=job_id, owner=owner, metadata=callback.metadata)
    return [callback.url, entry.model_dump_json(), repr(unix_now())]


def write_outbox_entry(valkey: Redis, job_id: str, *, owner: str, callback: Callback) -> None:
    """Write the entry of a job that is on its queue already. URLs of several calls add up. Raises RedisError.

    Writes nothing when there is no URL and the owner has no endpoint.
    """
    _WRITE.call(valkey, entry_keys(job_id, owner), [job_id, *entry_arguments(job_id, owner, callback)])


def read_outbox_entry(fields: Mapping[bytes, bytes]) -> OutboxEntry | None:
    """Read an entry from its hash; None for an empty one. Raises ValueError for one that cannot be read."""
    if b"intent" not in fields:
        return None
    urls = sorted(name.decode().removeprefix(_URL) for name in fields if name.startswith(_URL.encode()))
    return OutboxEntry.model_validate_json(fields[b"intent"]).model_copy(update={"urls": tuple(urls)})
