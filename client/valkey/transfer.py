"""All keys of the service in Valkey as plain data, to move between servers and versions.

The state of the queues is read in one atomic step: the queues and registries, and all keys of the jobs that have not
ended. The rest does not change any more, such as jobs that have ended, or stands alone; it is read after that.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson
from redis import Redis
from redis.client import Pipeline

from client.valkey import keys
from client.valkey.scripts import load

SCAN_COUNT = 1_000
# Keys that one call reads: 500 jobs of 4 kB are 2 MB.
BATCH = 500
_Item = TypeVar("_Item")
_LUA = Path(__file__).parent / "lua"
_CONSTANTS = {
    "OUTBOX_PENDING": keys.OUTBOX_PENDING,
    "DELIVERIES_DUE": keys.DELIVERIES_DUE,
    "DELIVERY": keys.delivery(""),
}
_READ_SOME = load(_LUA / "read_some_keys.lua", _CONSTANTS)
_READ_UNENDED = load(_LUA / "read_unended_jobs.lua", _CONSTANTS)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key with its content. `kind` is Valkey's name of the type; `expires_ms` a Unix time, -1 for never.

    `content`: a list of values as RESP2 returns them, fields before their values, members before their scores; for a
    stream an id, the number of fields and values, and these.
    """

    name: bytes
    kind: str
    expires_ms: int
    content: tuple[bytes, ...]

    def to_json(self) -> bytes:
        """Return the record as a line of JSON."""
        values = [base64.b64encode(value).decode() for value in (self.name, *self.content)]
        return orjson.dumps([self.kind, self.expires_ms, *values])

    @classmethod
    def from_json(cls, line: bytes) -> KeyRecord:
        """Read a line that `to_json` wrote. Raises ValueError."""
        kind, expires_ms, name, *content = orjson.loads(line)
        return cls(base64.b64decode(name), kind, expires_ms, tuple(base64.b64decode(value) for value in content))


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """The state of the queues at one moment, and the names of all other keys. `unended`: jobs that have not ended."""

    unended: frozenset[str]
    records: list[KeyRecord]
    others: list[bytes]

    def read_others(self, valkey: Redis) -> Iterator[list[KeyRecord]]:
        """Yield the other keys in batches: those of jobs that had ended, and those that stand alone."""
        done = {record.name for record in self.records}
        ended = self._ended()
        wanted = (name for name in self.others if name not in done and _job_of(name) in ended)
        for names in _batches(wanted):
            yield _parse_all(_READ_SOME.call(valkey, [], names))

    def _ended(self) -> set[str | None]:
        """Return the ids of the jobs that had ended, from the registries; None stands for keys of no job."""
        found: set[str | None] = {None}
        for record in self.records:
            if keys.is_registry_of_ended(record.name):
                found |= {member.decode(errors="replace") for member in record.content[::2]}
        return found - self.unended


def take_snapshot(valkey: Redis) -> KeySnapshot:
    """Read the state of the queues in one atomic step. Raises RedisError."""
    index: list[bytes] = []
    others: list[bytes] = []
    for name in _all_names(valkey):
        if not keys.is_of_process(name):
            (index if keys.is_queue_state(name) else others).append(name)
    unended, records = cast("tuple[list[bytes], list[Any]]", _READ_UNENDED.call(valkey, [], sorted(index)))
    ids = frozenset(job_id.decode(errors="replace") for job_id in unended)
    return KeySnapshot(ids, _parse_all(records), sorted(others))


def write_keys(valkey: Redis, records: Iterable[KeyRecord]) -> int:
    """Write keys, replacing those with the same names; return their number. Raises RedisError."""
    count = 0
    for batch in _batches(records):
        pipeline = valkey.pipeline(transaction=False)
        for record in batch:
            pipeline.delete(record.name)
            _WRITERS[record.kind](pipeline, record)
            if record.expires_ms >= 0:
                pipeline.pexpireat(record.name, record.expires_ms)
        pipeline.execute()
        count += len(batch)
    return count


def clear_keys(valkey: Redis, *, keep: Sequence[str] = ()) -> None:
    """Delete every key of the service but those to keep. Raises RedisError."""
    kept = {name.encode() for name in keep}
    for names in _batches(name for name in list(_all_names(valkey)) if name not in kept):
        valkey.delete(*names)


def has_jobs(valkey: Redis) -> bool:
    """Return True if the server holds a job, waiting or ended. Raises RedisError."""
    return any(_job_of(name) is not None for name in _all_names(valkey))


def live_workers(valkey: Redis) -> int:
    """Return how many workers are registered and have given a heartbeat lately. Raises RedisError."""
    names = cast("set[bytes]", valkey.smembers(keys.WORKERS))
    return valkey.exists(*names) if names else 0


def _all_names(valkey: Redis) -> Iterator[bytes]:
    """Yield the names of all keys of the service and of RQ, each once."""
    found = chain.from_iterable(valkey.scan_iter(f"{prefix}*", count=SCAN_COUNT) for prefix in keys.PREFIXES)
    yield from dict.fromkeys(cast("Iterator[bytes]", found))


def _job_of(name: bytes) -> str | None:
    """Return the id of the job that a key belongs to; None for other keys."""
    return keys.job_of(name.decode(errors="replace"))


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _parse_all(replies: Iterable[Any]) -> list[KeyRecord]:
    return [_parse(*reply) for reply in replies if reply]


def _parse(name: bytes, kind: bytes, expires_ms: int, content: list[Any]) -> KeyRecord:
    if kind == b"stream":
        entries = ([entry_id, str(len(values)).encode(), *values] for entry_id, values in content)
        content = list(chain.from_iterable(entries))
    return KeyRecord(name, kind.decode(), expires_ms, tuple(content))


def _write_stream(pipeline: Pipeline, record: KeyRecord) -> None:
    values = iter(record.content)
    for entry_id in values:
        fields = list(islice(values, int(next(values))))
        pipeline.xadd(record.name, _pairs(fields), id=entry_id)


def _pairs(values: Sequence[bytes]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


_WRITERS: Mapping[str, Callable[[Pipeline, KeyRecord], object]] = {
    "string": lambda pipeline, record: pipeline.set(record.name, record.content[0]),
    "list": lambda pipeline, record: pipeline.rpush(record.name, *record.content),
    "set": lambda pipeline, record: pipeline.sadd(record.name, *record.content),
    "zset": lambda pipeline, record: pipeline.zadd(record.name, _pairs(record.content)),
    "hash": lambda pipeline, record: pipeline.hset(record.name, mapping=_pairs(record.content)),
    "stream": _write_stream,
}
