"""What the service returns, as frozen dataclasses.

`raw` is the JSON object that a value was read from. A field that a later release of the service adds is there first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, Self

Raw = Mapping[str, Any]
JobStatus = Literal["queued", "started", "finished", "failed", "cancelled"]
JobKind = Literal["chat", "document", "webhook"]
UploadStatus = Literal["queued", "processing", "ready", "failed", "deleting"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A JSON object of the service."""

    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, body: Raw, **converted: Any) -> Self:
        """Return the record of a JSON object. `converted` replaces fields; unknown fields are only in `raw`."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: body[name] for name in body if name in known} | converted | {"raw": body})


def _moments(body: Raw, *names: str) -> dict[str, datetime | None]:
    return {name: datetime.fromisoformat(body[name]) for name in names if body.get(name)}


@dataclass(frozen=True, kw_only=True)
class Source(Record):
    """A passage that supports an answer. `quote` is an exact part of the page `page`, counted from 1.

    `highlight`: where the sentence that fits the question best begins and ends in `quote`.
    """

    n: int
    upload_id: str
    name: str
    page: int
    page_label: str = ""
    quote: str = ""
    score: float = 0.0
    start: int = 0
    end: int = 0
    section: str = ""
    highlight: tuple[int, int] | None = None
    verified: bool | str = "unchecked"

    @classmethod
    def of(cls, body: Raw, **converted: Any) -> Self:
        if body.get("highlight"):
            converted["highlight"] = tuple(body["highlight"])
        return super().of(body, **converted)


@dataclass(frozen=True, kw_only=True)
class Link(Record):
    """An image or a link in an answer. Follow none that you do not trust: a document may have put it there."""

    kind: str
    url: str
    text: str = ""
    in_sources: bool = False


@dataclass(frozen=True, kw_only=True)
class Usage(Record):
    """Tokens, as the model provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Answer(Record):
    """The result of a job. `answered` is False if the documents do not answer the question.

    Of the job of a document, `text` says what was stored, and the other fields have their defaults.
    """

    job_id: str
    text: str
    sources: tuple[Source, ...] = ()
    answered: bool = True
    unsupported: int = 0
    links: tuple[Link, ...] = ()
    used: Raw = field(default_factory=dict)
    cached: bool = False
    rewritten: str | None = None
    incomplete: str | None = None
    not_searched: int = 0
    confidence: str | None = None
    usage: Usage | None = None
    times: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Raw, **converted: Any) -> Self:
        return super().of(
            body,
            text=body.get("result") or "",
            sources=tuple(Source.of(one) for one in body.get("sources") or ()),
            links=tuple(Link.of(one) for one in body.get("links") or ()),
            usage=Usage.of(body["usage"]) if body.get("usage") else None,
            **converted,
        )


@dataclass(frozen=True, kw_only=True)
class Stage(Record):
    """How far a started job is: `done` of `total` pages, or only the stage if there is nothing to count."""

    stage: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class Job(Record):
    """The state of a job. `position` counts from 1, the next to run; None unless the job is in a queue."""

    job_id: str
    status: JobStatus
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    position: int | None = None
    expected_wait_seconds: float | None = None
    progress: Stage | None = None
    result: str | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """True once the status never changes again."""
        return self.status in {"finished", "failed", "cancelled"}

    @classmethod
    def of(cls, body: Raw, **converted: Any) -> Self:
        if body.get("progress"):
            converted["progress"] = Stage.of(body["progress"])
        return super().of(body, **_moments(body, "created_at", "started_at", "ended_at"), **converted)


@dataclass(frozen=True, kw_only=True)
class ListedJob(Record):
    """A job in the list of jobs, with its question or the name of its document."""

    job_id: str
    kind: JobKind
    status: JobStatus
    created_at: datetime
    query: str | None = None
    name: str | None = None

    @classmethod
    def of(cls, body: Raw, **converted: Any) -> Self:
        return super().of(body, **_moments(body, "created_at"), **converted)


@dataclass(frozen=True, kw_only=True)
class Upload(Record):
    """An uploaded document. Of one that was only sent, the fields after `duplicate` have their defaults.

    `duplicate`: the same file was uploaded before, and this is that upload. `reason` says for programs why indexing
    failed, `error` for people.
    """

    upload_id: str
    name: str
    status: UploadStatus
    job_id: str | None = None
    duplicate: bool = False
    media_type: str = ""
    bytes: int = 0
    sha256: str = ""
    pages: int | None = None
    pages_done: int = 0
    chunks: int | None = None
    reason: str | None = None
    error: str | None = None
    warnings: tuple[Raw, ...] = ()
    searched: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    indexed_at: datetime | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, body: Raw, **converted: Any) -> Self:
        moments = _moments(body, "created_at", "updated_at", "started_at", "indexed_at", "expires_at")
        return super().of(body, warnings=tuple(body.get("warnings") or ()), **moments, **converted)


@dataclass(frozen=True, kw_only=True)
class Caller(Record):
    """Who the service takes the caller for."""

    user_id: str
    key_id: str | None = None
    scopes: tuple[str, ...] = ()
    is_admin: bool = False

    @classmethod
    def of(cls, body: Raw, **converted: Any) -> Self:
        return super().of(body, scopes=tuple(body.get("scopes") or ()), **converted)
