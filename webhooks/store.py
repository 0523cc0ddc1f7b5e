"""Endpoints, secrets and deliveries in Valkey. Safe for threads; connects on first use.

A delivery and the RQ job that is to try it are written by one script, so that neither is there without the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError
from redis.retry import Retry
from rq.job import Job
from rq.job import JobStatus as RqStatus

from client.rq.fair_queue import LUA_CONSTANTS, record_fields
from client.rq.outbox import Callback, write_outbox_entry
from client.rq.records import FUNCTIONS, QUEUES
from client.rq.serializer import PlainSerializer
from client.rq_client import SOCKET_TIMEOUT_SECONDS
from client.valkey import keys
from client.valkey.connection import RETRY_AFTER_SECONDS
from client.valkey.scripts import load
from errors import QueueUnavailable, WebhookConflict, WebhookNotFound
from webhooks.models import Delivery, DeliveryStatus, DeliveryTask, Endpoint, Message
from webhooks.sender import new_secret

QUEUE: Final = QUEUES["webhook"]
MAX_ENDPOINTS: Final = 20
MAX_LOGGED: Final = 1_000
# The name of the log of all deliveries.
EVERYONE: Final = "everyone"
# An attempt takes at most 15 s; the rest is for a slow Valkey.
JOB_TIMEOUT_SECONDS: Final = 60
JOB_RESULT_SECONDS: Final = 3_600

# Write a delivery, and the RQ job of its next attempt.
SAVE_DELIVERY: Final = load(Path(__file__).parent / "lua" / "save_delivery.lua", LUA_CONSTANTS)


def connect(url: str) -> Redis:
    """Make a client whose every call ends within two seconds or so. Does not connect yet."""
    return Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )


class WebhookStore:
    """What is kept of webhooks. `keep_seconds`: how long a delivery stays in the log after its last attempt."""

    def __init__(self, valkey: Redis, *, keep_seconds: int) -> None:
        self.valkey = valkey
        self._keep_seconds = keep_seconds

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Register an endpoint. Raises WebhookConflict when its owner has MAX_ENDPOINTS already."""
        with reachable():
            if self.valkey.scard(keys.endpoints(endpoint.owner)) >= MAX_ENDPOINTS:
                raise WebhookConflict(f"there are {MAX_ENDPOINTS} endpoints already: delete one first")
            self._write_endpoint(endpoint)

    def replace_endpoint(self, endpoint: Endpoint) -> None:
        """Write an endpoint anew, if it is still there."""
        with reachable():
            if self.valkey.exists(keys.endpoint(endpoint.endpoint_id)):
                self._write_endpoint(endpoint)

    def endpoints(self, owner: str | None) -> list[Endpoint]:
        """List a user's endpoints, oldest first; None: everybody's."""
        with reachable():
            ids = cast("set[bytes]", self.valkey.smembers(keys.endpoints(owner)))
            stored = self.valkey.mget([keys.endpoint(name.decode()) for name in ids]) if ids else []
        found = [_endpoint(value) for value in cast("list[bytes | None]", stored)]
        return sorted((e for e in found if e is not None and owner in {None, e.owner}), key=lambda e: e.created_at)

    def endpoint(self, endpoint_id: str, *, owner: str | None = None) -> Endpoint:
        """Read an endpoint; when `owner` is given, only one of theirs. Raises WebhookNotFound."""
        with reachable():
            found = _endpoint(cast("bytes | None", self.valkey.get(keys.endpoint(endpoint_id))))
        if found is None or (owner is not None and found.owner != owner):
            raise WebhookNotFound("there is no such endpoint: GET /webhooks lists yours")
        return found

    def delete_endpoint(self, endpoint: Endpoint) -> None:
        """Forget an endpoint. What is on its way to it is not sent any more."""
        with reachable(), self.valkey.pipeline() as pipeline:
            for owner in (endpoint.owner, None):
                pipeline.srem(keys.endpoints(owner), endpoint.endpoint_id)
            pipeline.delete(keys.endpoint(endpoint.endpoint_id))
            pipeline.execute()

    def default_secret(self, owner: str) -> str:
        """Return the secret for URLs given with a job, made on the first call."""
        key = keys.webhook_secret(owner)
        with reachable():
            self.valkey.set(key, new_secret(), nx=True)
            return cast("bytes", self.valkey.get(key)).decode()

    def secret_for(self, delivery: Delivery) -> str:
        """Return what signs a delivery: the secret of the endpoint with that URL, else its owner's default."""
        for endpoint in self.endpoints(delivery.owner):
            if delivery.endpoint_id in {endpoint.endpoint_id, ""} and endpoint.url == delivery.url:
                return endpoint.secret
        return self.default_secret(delivery.owner)

    def tell(self, job_id: str, *, owner: str, callback: Callback) -> None:
        """Have the end of a job told that is on its queue already, or has ended just now."""
        with reachable():
            write_outbox_entry(self.valkey, job_id, owner=owner, callback=callback)

    def body(self, delivery: Delivery) -> bytes | None:
        """Return what a delivery sends; None when it is no longer kept."""
        with reachable():
            return cast("bytes | None", self.valkey.get(keys.webhook_message(delivery.message_id)))

    def add_deliveries(self, deliveries: Sequence[Delivery], *, now: float, message: Message | None = None) -> None:
        """Put new deliveries on the queue, and keep the body of their event. Skips deliveries that exist already.

        Raises RedisError.
        """

        def fill(pipeline: Pipeline) -> None:
            if message is not None:
                key = keys.webhook_message(message.message_id)
                pipeline.set(key, message.body, nx=True, ex=self._keep_seconds)
            for delivery in deliveries:
                SAVE_DELIVERY.add_to(pipeline, *self._save_call(delivery, expected="", now=now, due=now))
                self._log(pipeline, delivery, now=now)

        SAVE_DELIVERY.transaction(self.valkey, fill)

    def _log(self, pipeline: Pipeline, delivery: Delivery, *, now: float) -> None:
        places = {"owner": delivery.owner, "all": EVERYONE, "endpoint": delivery.endpoint_id, "job": delivery.job_id}
        for kind, name in places.items():
            if not name:  # no endpoint: a URL given with the job
                continue
            key = keys.delivery_log(kind, name)
            pipeline.zadd(key, {delivery.delivery_id: delivery.created_at.timestamp()}, nx=True)
            pipeline.zremrangebyscore(key, 0, now - self._keep_seconds)
            pipeline.zremrangebyrank(key, 0, -MAX_LOGGED - 1)
            pipeline.expire(key, self._keep_seconds)

    def save_delivery(self, delivery: Delivery, *, expected: int, now: float, drop: str = "") -> bool:
        """Write a delivery, and enqueue its next attempt if it has one. Returns False if another process was faster.

        `expected`: the `seq` that the delivery was read with. `drop`: an RQ job that must not run any more.
        """
        due = None if delivery.next_attempt_at is None else delivery.next_attempt_at.timestamp()
        script_keys, arguments = self._save_call(delivery, expected=str(expected), now=now, due=due, drop=drop)
        with reachable():
            return bool(SAVE_DELIVERY.call(self.valkey, script_keys, arguments))

    def delivery(self, delivery_id: str, *, owner: str | None = None) -> Delivery:
        """Read a delivery; when `owner` is given, only one of theirs. Raises WebhookNotFound."""
        with reachable():
            found = _delivery(cast("bytes | None", self.valkey.hget(keys.delivery(delivery_id), "record")))
        if found is None or (owner is not None and found.owner != owner):
            raise WebhookNotFound("there is no such delivery: GET /webhooks/deliveries lists yours")
        return found

    def deliveries(self, what: str, name: str, *, owner: str | None, offset: int, limit: int) -> list[Delivery]:
        """List the deliveries of an `owner`, an `endpoint`, a `job` or `all`, newest first.

        When `owner` is given, only theirs.
        """
        with reachable():
            ids = self.valkey.zrevrange(keys.delivery_log(what, name), offset, offset + limit - 1)
            pipeline = self.valkey.pipeline(transaction=False)
            for delivery_id in cast("list[bytes]", ids):
                pipeline.hget(keys.delivery(delivery_id.decode()), "record")
            found = [_delivery(record) for record in pipeline.execute()]
        return [delivery for delivery in found if delivery is not None and owner in {None, delivery.owner}]

    def _write_endpoint(self, endpoint: Endpoint) -> None:
        with self.valkey.pipeline() as pipeline:
            pipeline.set(keys.endpoint(endpoint.endpoint_id), endpoint.model_dump_json())
            for owner in (endpoint.owner, None):
                pipeline.sadd(keys.endpoints(owner), endpoint.endpoint_id)
            pipeline.execute()

    def _save_call(
        self, delivery: Delivery, *, expected: str, now: float, due: float | None, drop: str = ""
    ) -> tuple[list[str], list[Any]]:
        """Return the keys and the arguments of SAVE_DELIVERY."""
        job = self._job(delivery)
        script_keys = [
            keys.delivery(delivery.delivery_id),
            keys.DELIVERIES_DUE,
            keys.webhook_message(delivery.message_id),
        ]
        arguments = [
            delivery.delivery_id,
            expected,
            str(self._keep_seconds),
            repr(now),
            delivery.model_dump_json(),
            str(delivery.seq),
            "" if due is None or delivery.status is not DeliveryStatus.PENDING else str(_tick(due, now)),
            QUEUE,
            drop,
            job.id,
            *record_fields(job.to_dict(), delivery.owner),
        ]
        return script_keys, arguments

    def _job(self, delivery: Delivery) -> Job:
        task = DeliveryTask(delivery_id=delivery.delivery_id, seq=delivery.seq)
        return Job.create(
            FUNCTIONS["webhook"],
            args=(task.model_dump(),),
            id=rq_job_id(delivery.delivery_id, delivery.seq),
            origin=QUEUE,
            connection=self.valkey,
            timeout=JOB_TIMEOUT_SECONDS,
            result_ttl=JOB_RESULT_SECONDS,
            failure_ttl=JOB_RESULT_SECONDS,
            status=RqStatus.QUEUED,
            description=FUNCTIONS["webhook"].rpartition(".")[2],
            serializer=PlainSerializer,
        )


def rq_job_id(delivery_id: str, seq: int) -> str:
    """Name the RQ job that carries this number of a delivery."""
    return f"webhook-{delivery_id}-{seq}"


def keep_seconds(log_days: int) -> int:
    """Turn the setting into seconds."""
    return log_days * 86_400


def _tick(due: float, now: float) -> float:
    """Round a time in the future up to a second, RQ's measure for schedules.

    What is due now may seem up to a microsecond later: records keep no more of a time.
    """
    return math.ceil(due) if due > now + 1e-6 else now


def _endpoint(stored: bytes | None) -> Endpoint | None:
    """Read an endpoint; one that makes no sense is none."""
    try:
        return None if stored is None else Endpoint.model_validate_json(stored)
    except ValidationError:
        return None


def _delivery(stored: bytes | None) -> Delivery | None:
    try:
        return None if stored is None else Delivery.model_validate_json(stored)
    except ValidationError:
        return None


@contextmanager
def reachable() -> Iterator[None]:
    """Turn the errors of Valkey into QueueUnavailable."""
    try:
        yield
    except (RedisError, OSError):
        raise QueueUnavailable(
            "the queue cannot be reached; try again in a moment", retry_after_seconds=RETRY_AFTER_SECONDS
        ) from None
