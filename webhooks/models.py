"""Frozen models of webhooks: endpoints, messages, deliveries and their attempts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import Field, ValidationError

from schemas import Answer, Frozen, JobStatus, JobView

# Seconds from each attempt to the next: the schedule of the Standard Webhooks specification.
SCHEDULE_SECONDS: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
# A larger body is sent without result, sources and links; the receiver reads them at /result.
MAX_BODY_BYTES: Final = 256 * 1024
# The namespace of derived ids: a repeated step derives the same id again, and so creates nothing new.
_NAMESPACE: Final = uuid.UUID("8f0d1d0e-59a6-5f0b-9a55-0a5ad2a7b9c4")


class EventType(StrEnum):
    """The events that webhooks report."""

    FINISHED = "job.finished"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"


class DeliveryStatus(StrEnum):
    """`pending` until the receiver accepts the delivery or the last attempt fails."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Endpoint(Frozen):
    """A registered receiver. Empty `events` mean all; `disabled_at` is set when the receiver answers 410."""

    endpoint_id: str
    owner: str
    url: str
    secret: str = Field(repr=False)
    description: str = ""
    events: tuple[EventType, ...] = ()
    created_at: datetime
    disabled_at: datetime | None = None

    def accepts(self, event: EventType) -> bool:
        """Return True if the endpoint is enabled and registered for the event."""
        return self.disabled_at is None and (not self.events or event in self.events)


class Attempt(Frozen):
    """One attempt to deliver. `status` is the status of the response; None without a response: `error` says why."""

    at: datetime
    status: int | None = None
    error: str | None = None
    seconds: float


class Delivery(Frozen):
    """An event on its way to one receiver.

    `endpoint_id` is empty for the URL of a job. `seq` counts how often the delivery was put on the queue: only the RQ
    job with the current number may make an attempt. `first` is the number of attempts before the present round.
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
        """Return the seconds from the last attempt to the next; None after the end of the schedule."""
        made = len(self.attempts) - self.first
        return SCHEDULE_SECONDS[made] if made < len(SCHEDULE_SECONDS) else None


class DeliveryTask(Frozen):
    """An attempt to make, as the task travels to a worker."""

    delivery_id: str
    seq: int


class Message(Frozen):
    """An event as it is sent. Every attempt at every receiver sends the same body."""

    message_id: str
    type: EventType
    body: str

    @classmethod
    def of(cls, job: JobView, metadata: Mapping[str, str]) -> Self:
        """Make the message about an ended job."""
        kind = EventType(f"job.{job.status.value}")
        data: dict[str, Any] = {"job_id": job.job_id, "kind": job.kind, "status": job.status.value}
        data |= _outcome(job)
        data["metadata"] = dict(metadata)
        ended_at = job.ended_at or datetime.now(UTC)
        payload = _Payload(type=kind, timestamp=ended_at, data=data)
        body = payload.model_dump_json()
        if len(body.encode()) > MAX_BODY_BYTES:
            shortened = {name: value for name, value in data.items() if name not in {"result", "sources", "links"}}
            body = payload.model_copy(update={"data": shortened | {"truncated": True}}).model_dump_json()
        return cls(message_id=f"msg_{stable_id(job.job_id, kind)}", type=kind, body=body)


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
    except ValidationError:  # another program's job: the receiver can read /result
        return {"result": None, "sources": [], "links": []}
    return {"result": answer.text, **answer.model_dump(mode="json", include={"sources", "links"})}


def stable_id(*parts: str) -> str:
    """Derive an id: the same parts always give the same id."""
    return uuid.uuid5(_NAMESPACE, "\n".join(parts)).hex


def utc_time(seconds: float) -> datetime:
    """Convert Unix seconds to a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
