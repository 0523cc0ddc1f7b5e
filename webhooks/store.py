"""Endpoints, secrets and deliveries in Valkey. Safe for threads; connects on first use.

One script writes a delivery together with the RQ job of its next attempt, so that neither exists without the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from client.rq.fair_queue import LUA_CONSTANTS, record_fields
from client.rq.new_job import NewJob
from client.rq.origin import NO_ORIGIN, JobOrigin, present_origin, read_origin
from client.rq.outbox import Callback, write_outbox_entry
from client.rq.records import FUNCTIONS, QUEUES
from client.valkey import keys
from client.valkey.connection import queue_unavailable
from client.valkey.multiplexer import SILENCE_SECONDS
from client.valkey.scripts import load
from errors import WebhookConflict, WebhookNotFound
from settings import Settings
from webhooks.models import Delivery, DeliveryStatus, DeliveryTask, Endpoint, Message
from webhooks.sender import new_secret

_Record = TypeVar("_Record", Endpoint, Delivery)

QUEUE: Final = QUEUES["webhook"]
MAX_ENDPOINTS: Final = 20
MAX_LOGGED: Final = 1_000
# The name of the log that lists the deliveries of all users.
EVERYONE: Final = "everyone"
# An attempt takes at most 15 s; the rest is for a slow Valkey.
JOB_TIMEOUT_SECONDS: Final = 60
JOB_RESULT_SECONDS: Final = 3_600

# Write a delivery, and the RQ job of its next attempt.
SAVE_DELIVERY: Final = load(Path(__file__).parent / "lua" / "save_delivery.lua", LUA_CONSTANTS)
_SAVE_ENDPOINT: Final = load(Path(__file__).parent / "lua" / "save_endpoint.lua")


def connect(url: str) -> Redis:
    """Make a client whose every call ends within about two seconds. Connects on first use."""
    return Redis.from_url(
        url,
        socket_timeout=SILENCE_SECONDS,
        socket_connect_timeout=SILENCE_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )


class WebhookStore:
    """Endpoints, secrets and deliveries. A delivery is kept for `ttl_seconds` after its last attempt.

    Every method raises QueueUnavailable.
    """

    def __init__(self, valkey: Redis, *, ttl_seconds: int) -> None:
        self.valkey = valkey
        self._ttl_seconds = ttl_seconds

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Register an endpoint. Raises WebhookConflict if its owner already has MAX_ENDPOINTS."""
        if not self._write_endpoint(endpoint, max_endpoints=MAX_ENDPOINTS):
            raise WebhookConflict(
                f"you already have {MAX_ENDPOINTS} endpoints, the most a user may have: delete one first"
            )

    def replace_endpoint(self, endpoint: Endpoint) -> None:
        """Overwrite an endpoint. Raises WebhookNotFound if it was deleted meanwhile."""
        if not self._write_endpoint(endpoint):
            raise _endpoint_not_found()

    def endpoints(self, owner: str | None) -> list[Endpoint]:
        """List the endpoints of a user, oldest first; with None, of all users."""
        with translated_errors():
            ids = cast("set[bytes]", self.valkey.smembers(keys.endpoints(owner)))
            stored = self.valkey.mget([keys.endpoint(name.decode()) for name in ids]) if ids else []
        parsed = [_parse(Endpoint, value) for value in cast("list[bytes | None]", stored)]
        return sorted((e for e in parsed if e is not None and owner in {None, e.owner}), key=lambda e: e.created_at)

    def endpoint(self, endpoint_id: str, *, owner: str | None = None) -> Endpoint:
        """Read an endpoint; with `owner`, only an endpoint of that user. Raises WebhookNotFound."""
        with translated_errors():
            endpoint = _parse(Endpoint, cast("bytes | None", self.valkey.get(keys.endpoint(endpoint_id))))
        if endpoint is None or owner not in {None, endpoint.owner}:
            raise _endpoint_not_found()
        return endpoint

    def delete_endpoint(self, endpoint: Endpoint) -> None:
        """Delete an endpoint. Its pending deliveries are not sent."""
        with translated_errors(), self.valkey.pipeline() as pipeline:
            for owner in (endpoint.owner, None):
                pipeline.srem(keys.endpoints(owner), endpoint.endpoint_id)
            pipeline.delete(keys.endpoint(endpoint.endpoint_id))
            pipeline.execute()

    def default_secret(self, owner: str) -> str:
        """Return the secret of a user for the `webhook_url` of jobs. The first call makes the secret."""
        key = keys.webhook_secret(owner)
        with translated_errors():
            self.valkey.set(key, new_secret(), nx=True)
            return cast("bytes", self.valkey.get(key)).decode()

    def secrets_for(self, delivery: Delivery, *, now: float) -> tuple[str, ...]:
        """Return the secrets that sign a delivery: of the owner's endpoint with that URL, else the owner's default."""
        for endpoint in self.endpoints(delivery.owner):
            if delivery.endpoint_id in {endpoint.endpoint_id, ""} and endpoint.url == delivery.url:
                return endpoint.secrets(now)
        return (self.default_secret(delivery.owner),)

    def add_callback(self, job_id: str, *, owner: str, callback: Callback) -> None:
        """Add a callback to a job that is already on its queue, or has just ended."""
        with translated_errors():
            write_outbox_entry(self.valkey, job_id, owner=owner, callback=callback)

    def body(self, delivery: Delivery) -> bytes | None:
        """Return the body that a delivery sends; None if it is no longer kept."""
        with translated_errors():
            return cast("bytes | None", self.valkey.get(keys.webhook_message(delivery.message_id)))

    def add_deliveries(
        self,
        deliveries: Sequence[Delivery],
        *,
        now: float,
        message: Message | None = None,
        origin: JobOrigin = NO_ORIGIN,
    ) -> None:
        """Put new deliveries on the queue, and keep the body of their event. Skips deliveries that exist already.

        `origin`: of the jobs that deliver. Raises RedisError.
        """

        def fill(pipeline: Pipeline) -> None:
            if message is not None:
                key = keys.webhook_message(message.message_id)
                pipeline.set(key, message.body, nx=True, ex=self._ttl_seconds)
            for delivery in deliveries:
                arguments = self._save_arguments(delivery, expected="", now=now, due=now, origin=origin)
                SAVE_DELIVERY.add_to(pipeline, *arguments)
                self._add_to_logs(pipeline, delivery, now=now)

        SAVE_DELIVERY.transaction(self.valkey, fill)

    def _add_to_logs(self, pipeline: Pipeline, delivery: Delivery, *, now: float) -> None:
        logs = {"owner": delivery.owner, "all": EVERYONE, "endpoint": delivery.endpoint_id, "job": delivery.job_id}
        for kind, name in logs.items():
            if not name:  # the URL of a job has no endpoint
                continue
            key = keys.delivery_log(kind, name)
            pipeline.zadd(key, {delivery.delivery_id: delivery.created_at.timestamp()}, nx=True)
            pipeline.zremrangebyscore(key, 0, now - self._ttl_seconds)
            pipeline.zremrangebyrank(key, 0, -MAX_LOGGED - 1)
            pipeline.expire(key, self._ttl_seconds)

    def save_delivery(
        self, delivery: Delivery, *, expected: int, now: float, remove_job: str = "", origin: JobOrigin | None = None
    ) -> bool:
        """Write a delivery and enqueue its next attempt, if any. Returns False if another process wrote it meanwhile.

        `expected`: the `seq` that the delivery was read with. `remove_job`: an RQ job that must not run. `origin`: of
        the job that makes the next attempt; by default this request.
        """
        due = None if delivery.next_attempt_at is None else delivery.next_attempt_at.timestamp()
        script_keys, arguments = self._save_arguments(
            delivery,
            expected=str(expected),
            now=now,
            due=due,
            origin=present_origin() if origin is None else origin,
            remove_job=remove_job,
        )
        with translated_errors():
            return bool(SAVE_DELIVERY.call(self.valkey, script_keys, arguments))

    def delivery(self, delivery_id: str, *, owner: str | None = None) -> Delivery:
        """Read a delivery; with `owner`, only a delivery of that user. Raises WebhookNotFound."""
        with translated_errors():
            delivery = _parse(Delivery, cast("bytes | None", self.valkey.hget(keys.delivery(delivery_id), "record")))
        if delivery is None or owner not in {None, delivery.owner}:
            raise WebhookNotFound("there is no such delivery: GET /webhooks/deliveries lists yours")
        return delivery

    def deliveries(self, kind: str, name: str, *, owner: str | None, offset: int, limit: int) -> list[Delivery]:
        """List the deliveries in a log, newest first. With `owner`, only those of that user.

        `kind` is `owner`, `endpoint`, `job` or `all`; `name` is the id of the owner, endpoint or job, or EVERYONE.
        """
        with translated_errors():
            ids = self.valkey.zrevrange(keys.delivery_log(kind, name), offset, offset + limit - 1)
            pipeline = self.valkey.pipeline(transaction=False)
            for delivery_id in cast("list[bytes]", ids):
                pipeline.hget(keys.delivery(delivery_id.decode()), "record")
            parsed = [_parse(Delivery, record) for record in pipeline.execute()]
        return [delivery for delivery in parsed if delivery is not None and owner in {None, delivery.owner}]

    def _write_endpoint(self, endpoint: Endpoint, *, max_endpoints: int | None = None) -> bool:
        """Write an endpoint in one step; `max_endpoints` of the owner for a new one, None to replace one.

        Returns False if the owner has that many already, or the endpoint to replace was deleted.
        """
        script_keys = [keys.endpoint(endpoint.endpoint_id), keys.endpoints(endpoint.owner), keys.endpoints(None)]
        arguments = [endpoint.endpoint_id, endpoint.record(), "" if max_endpoints is None else max_endpoints]
        with translated_errors():
            return bool(_SAVE_ENDPOINT.call(self.valkey, script_keys, arguments))

    def _save_arguments(
        self,
        delivery: Delivery,
        *,
        expected: str,
        now: float,
        due: float | None,
        origin: JobOrigin,
        remove_job: str = "",
    ) -> tuple[list[str], list[Any]]:
        """Return the keys and the arguments of SAVE_DELIVERY."""
        job = self._job(delivery, origin)
        script_keys = [
            keys.delivery(delivery.delivery_id),
            keys.DELIVERIES_DUE,
            keys.webhook_message(delivery.message_id),
        ]
        arguments = [
            delivery.delivery_id,
            expected,
            str(self._ttl_seconds),
            repr(now),
            delivery.model_dump_json(),
            str(delivery.seq),
            "" if due is None or delivery.status is not DeliveryStatus.PENDING else str(_scheduled_time(due, now)),
            QUEUE,
            remove_job,
            job.id,
            *record_fields(job.record(), delivery.owner),
        ]
        return script_keys, arguments

    def origin_of(self, job_id: str) -> JobOrigin:
        """Return where a job comes from; an empty origin if its record is gone. Raises QueueUnavailable."""
        with translated_errors():
            return read_origin(cast("bytes | None", self.valkey.hget(keys.job(job_id), "meta")))

    def _job(self, delivery: Delivery, origin: JobOrigin) -> NewJob:
        task = DeliveryTask(delivery_id=delivery.delivery_id, seq=delivery.seq)
        return NewJob(
            id=delivery_job_id(delivery.delivery_id, delivery.seq),
            function=FUNCTIONS["webhook"],
            payload=task.model_dump(),
            queue=QUEUE,
            created_at=datetime.now(UTC),
            timeout_seconds=JOB_TIMEOUT_SECONDS,
            ttl_seconds=JOB_RESULT_SECONDS,
            is_enqueued=False,  # until its time has come
            origin=origin,
        )


def delivery_job_id(delivery_id: str, seq: int) -> str:
    """Return the id of the RQ job that makes the attempt with the number `seq` of a delivery."""
    return f"webhook-{delivery_id}-{seq}"


def log_ttl_seconds(settings: Settings) -> int:
    """Return how long a delivery is kept after its last attempt."""
    return settings.webhook_log_days * 86_400


def _scheduled_time(due: float, now: float) -> float:
    """Round a time in the future up to a full second: RQ schedules by the second.

    A time up to 1 µs ahead counts as now: records round times to microseconds.
    """
    return math.ceil(due) if due > now + 1e-6 else now


def _endpoint_not_found() -> WebhookNotFound:
    return WebhookNotFound("there is no such endpoint: GET /webhooks lists yours")


def _parse(model: type[_Record], stored: bytes | None) -> _Record | None:
    """Parse a stored record; None if the record is missing or invalid."""
    try:
        return None if stored is None else model.model_validate_json(stored)
    except ValidationError:
        return None


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the errors of Valkey in the block into QueueUnavailable."""
    try:
        yield
    except Exception as error:
        unavailable = queue_unavailable(error)
        if unavailable is None:
            raise
        raise unavailable from None
