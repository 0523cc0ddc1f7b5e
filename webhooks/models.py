"""What is kept of webhooks, as frozen models: endpoints, events, deliveries and their attempts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import Field, ValidationError

from schemas import Answer, Frozen, JobStatus, JobView

# Seconds to wait before each attempt, counted from the one before: the schedule of the specification.
SCHEDULE_SECONDS: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
# A body larger than this goes without result, sources and links; the receiver reads them at /result.
MAX_BODY_BYTES: Final = 256 * 1024
# Ids are made of what they identify, so that doing something again makes nothing new.
_NAMESPACE: Final = uuid.UUID("8f0d1d0e-59a6-5f0b-9a55-0a5ad2a7b9c4")


class EventType(StrEnum):
    """What a webhook can be about."""

    FINISHED = "job.finished"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"


class DeliveryStatus(StrEnum):
    """`pending` until a receiver took it or the last attempt failed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Endpoint(Frozen):
    """A registered receiver. `events` empty means all; `disabled_at` is set once it answered 410."""

    endpoint_id: str
    owner: str
    url: str
    secret: str = Field(repr=False)
    description: str = ""
    events: tuple[EventType, ...] = ()
    created_at: datetime
    disabled_at: datetime | None = None

    def wants(self, event: EventType) -> bool:
        return self.disabled_at is None and (not self.events or event in self.events)


class Attempt(Frozen):
    """One try to deliver. `status` is the receiver's answer, None when there was none; `error` then says why."""

    at: datetime
    status: int | None
    error: str | None
    seconds: float


class Delivery(Frozen):
    """An event on its way to one receiver.

    `endpoint_id` is empty for a URL given with the job. `seq` counts how often it was put on the queue: only the job
    that carries the current number may try. `first` is how many attempts were made before the present round began.
    """

    delivery_id: str
    owner: str
    endpoint_id: str
    url: str
    message_id: str
    job_id: str
    type: EventType
    created_at: datetime
    status: DeliveryStatus = DeliveryStatus.PENDING
    next_attempt_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    reason: str | None = None
    seq: int = 1
    first: int = 0

    def next_delay_seconds(self) -> int | None:
        """Seconds from the last attempt to the next; None when the schedule has ended."""
        made = len(self.attempts) - self.first
        return SCHEDULE_SECONDS[made] if made < len(SCHEDULE_SECONDS) else None


class DeliveryTask(Frozen):
    """An attempt as it travels to a worker."""

    delivery_id: str
    seq: int


class Message(Frozen):
    """An event as it is sent. The body is made once: every attempt to every receiver sends the same bytes."""

    message_id: str
    type: EventType
    body: str

    @classmethod
    def of(cls, job: JobView, metadata: Mapping[str, str]) -> Self:
        """Make the message about a job that has ended."""
        kind = EventType(f"job.{job.status.value}")
        data: dict[str, Any] = {"job_id": job.job_id, "kind": job.kind, "status": job.status.value}
        data |= _outcome(job)
        data["metadata"] = dict(metadata)
        happened = job.ended_at or datetime.now(UTC)
        payload = _Payload(type=kind, timestamp=happened, data=data)
        body = payload.model_dump_json()
        if len(body.encode()) > MAX_BODY_BYTES:
            short = {name: value for name, value in data.items() if name not in {"result", "sources", "links"}}
            body = payload.model_copy(update={"data": short | {"truncated": True}}).model_dump_json()
        return cls(message_id=f"msg_{make_id(job.job_id, kind)}", type=kind, body=body)


class _Payload(Frozen):
    type: EventType
    timestamp: datetime
    data: dict[str, Any]


def _outcome(job: JobView) -> dict[str, Any]:
    if job.status is not JobStatus.FINISHED:
        failure = job.failure
        return {"error": failure.detail if failure else "", "error_code": failure.code if failure else "internal"}
    if job.kind != "chat":
        return {"result": job.result}
    try:
        answer = Answer.model_validate(job.result)
    except ValidationError:  # not of our making: the receiver can look at /result
        return {"result": None, "sources": [], "links": []}
    return {"result": answer.text, **answer.model_dump(mode="json", include={"sources", "links"})}


def make_id(*parts: str) -> str:
    """Make the id that always belongs to these parts."""
    return uuid.uuid5(_NAMESPACE, "\n".join(parts)).hex


def moment(seconds: float) -> datetime:
    """Turn Unix seconds into a time."""
    return datetime.fromtimestamp(seconds, UTC)
