"""The events of a job, as frozen dataclasses for `match` and `isinstance`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ragq.models import Answer, Raw, Source


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a job. An event of a type that this release does not know is a plain Event.

    A reader that was cut off goes on after the event `id`. `raw` is the data of the event as sent.
    """

    id: str
    type: str
    raw: Raw


@dataclass(frozen=True, kw_only=True)
class Queued(Event):
    """The job waits. `position` counts from 1."""

    position: int | None


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A worker has begun, or begins again: forget the tokens before this event."""

    attempt: int


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """A stage has begun, or `done` of `total` pages are read."""

    stage: str
    done: int | None
    total: int | None


@dataclass(frozen=True, kw_only=True)
class Token(Event):
    """A few words of the answer, while the model writes."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Sources(Event):
    """The sources that support the answer."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The end of a job with a result. The text of `answer` counts, not the tokens: unsupported citations are gone."""

    answer: Answer


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The end of a job without a result, because it failed or was cancelled."""

    error: str


_READERS: dict[str, Callable[[Raw], tuple[type[Event], dict[str, Any]]]] = {
    "queued": lambda data: (Queued, {"position": data.get("position")}),
    "started": lambda data: (Started, {"attempt": int(data.get("attempt") or 1)}),
    "progress": lambda data: (Progress, {name: data.get(name) for name in ("stage", "done", "total")}),
    "token": lambda data: (Token, {"text": str(data.get("text") or "")}),
    "sources": lambda data: (Sources, {"sources": tuple(Source.of(one) for one in data.get("sources") or ())}),
    "finished": lambda data: (Finished, {"answer": Answer.of(data)}),
    "failed": lambda data: (Failed, {"error": str(data.get("error") or "the job has no result")}),
    "cancelled": lambda data: (Failed, {"error": str(data.get("error") or "the job was cancelled")}),
}


def read_event(event_id: str, type_: str, data: Raw) -> Event:
    """Return the event of this type. Raises KeyError, TypeError and ValueError for data that the type does not have."""
    reader = _READERS.get(type_)
    if reader is None:
        return Event(id=event_id, type=type_, raw=data)
    kind, details = reader(data)
    return kind(id=event_id, type=type_, raw=data, **details)
