"""Frozen models of webhooks: endpoints, messages, deliveries and their attempts."""

from __future__ import annotations

import json
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
    """The events that webhooks report. Those of responses have OpenAI's body, and only an endpoint that names them."""

    FINISHED = "job.finished"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    RESPONSE_COMPLETED = "response.completed"
    RESPONSE_INCOMPLETE = "response.incomplete"
    RESPONSE_FAILED = "response.failed"
    RESPONSE_CANCELLED = "response.cancelled"

    @property
    def of_response(self) -> bool:
        """True for OpenAI's events."""
        return self.startswith("response.")


class DeliveryStatus(StrEnum):
    """`pending` until the receiver accepts the delivery or the last attempt fails."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Endpoint(Frozen):
    """A registered receiver. Empty `events` mean those of jobs; `disabled_at` is set when the receiver answers 410.

    `old_secret` signs beside `secret` until `old_secret_until`. Processes of the release before know neither.
    """

    endpoint_id: str
    owner: str
    url: str
    secret: str = Field(repr=False)
    description: str = ""
    events: tuple[EventType, ...] = ()
    created_at: datetime
    disabled_at: datetime | None = None
    old_secret: str | None = Field(None, repr=False)
    old_secret_until: datetime | None = None

    def accepts(self, event: EventType) -> bool:
        """Return True if the endpoint is enabled and registered for the event."""
        wanted = event in self.events if self.events else not event.of_response
        return self.disabled_at is None and wanted

    def secrets(self, now: float) -> tuple[str, ...]:
        """Return the secrets that sign at a time in Unix seconds."""
        if self.old_secret is None or self.old_secret_until is None or now >= self.old_secret_until.timestamp():
            return (self.secret,)
        return (self.secret, self.old_secret)

    def record(self) -> str:
        """Return the endpoint as it is stored."""
        unused = {"old_secret", "old_secret_until"} if self.old_secret is None else set()
        return self.model_dump_json(exclude=unused)


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

    @classmethod
    def of_response(cls, job: JobView) -> Self | None:
        """Make OpenAI's message about an ended question; None for another job, and for a search without an answer."""
        if job.kind != "chat" or (job.result is not None and not job.result.get("text")):
            return None
        incomplete = job.result is not None and job.result.get("incomplete") is not None
        finished = EventType.RESPONSE_INCOMPLETE if incomplete else EventType.RESPONSE_COMPLETED
        kind = finished if job.status is JobStatus.FINISHED else EventType(f"response.{job.status.value}")
        ended_at = job.ended_at or datetime.now(UTC)
        return cls.about_response(job.job_id, kind, created_at=ended_at)

    @classmethod
    def about_response(cls, job_id: str, kind: EventType, *, created_at: datetime) -> Self:
        """Make OpenAI's message about a response. `job_id`: its job."""
        event_id = stable_id(job_id, kind)
        body = {
            "id": f"evt_{event_id}",
            "object": "event",
            "created_at": int(created_at.timestamp()),
            "type": kind.value,
            "data": {"id": f"resp_{job_id.replace('-', '')}"},
        }
        return cls(message_id=f"msg_{event_id}", type=kind, body=json.dumps(body))


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
    return {"result": answer.text, **answer.model_dump(mode="json", include={"sources", "links"}, exclude_none=True)}


def stable_id(*parts: str) -> str:
    """Derive an id: the same parts always give the same id."""
    return uuid.uuid5(_NAMESPACE, "\n".join(parts)).hex


def utc_time(seconds: float) -> datetime:
    """Convert Unix seconds to a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
