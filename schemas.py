"""The nouns of the program as frozen pydantic models. What crosses the queue is one of these, as plain data."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

MAX_QUERY_CHARS = 4_000
MAX_K = 50
DEFAULT_K = 6
MAX_ANSWER_TOKENS = 32_768


def clean_text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("must be valid Unicode: it holds a lone surrogate")
    return value


QuestionText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUERY_CHARS),
    AfterValidator(clean_text),
]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobStatus(StrEnum):
    """What clients see. `finished`, `failed` and `cancelled` are terminal: they never change."""

    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED}


class Priority(StrEnum):
    """Order within a queue: `high` enters at the front."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


UserId = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(clean_text)]


def user(text: str) -> str:
    """Check the name of a user given on a command line. Raises ValueError."""
    if not text.isprintable():
        raise ValueError("must be printable")
    return TypeAdapter(UserId).validate_python(text)


class KeyScope(StrEnum):
    """What a caller may do: ask, bring documents, or both for everybody."""

    QUERY = "query"
    UPLOAD = "upload"
    ADMIN = "admin"


DEFAULT_SCOPES = frozenset({KeyScope.QUERY, KeyScope.UPLOAD})


class Caller(Frozen):
    """Who calls: the user, what proves it, and what it allows. `key_id` is empty for somebody without a key."""

    user_id: UserId = "local"
    key_id: str = ""
    scopes: frozenset[KeyScope] = DEFAULT_SCOPES

    def may(self, *scopes: KeyScope) -> bool:
        """Tell whether one of these scopes is given. An admin has them all."""
        return KeyScope.ADMIN in self.scopes or not self.scopes.isdisjoint(scopes)

    @property
    def sees(self) -> str | None:
        """Whose resources the caller sees: one user's, or None for everybody's."""
        return None if KeyScope.ADMIN in self.scopes else self.user_id


class ApiKey(Frozen):
    """A key as it is kept: all but itself. `sha256` is the hash of its text, in hexadecimal."""

    key_id: str
    name: str
    user_id: UserId
    scopes: frozenset[KeyScope]
    sha256: str = Field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def good(self, now: datetime) -> bool:
        """Tell whether it opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Query(Frozen):
    """A question as it travels to a worker. `everyone`: every user's documents may answer it, not its user's alone."""

    query: QuestionText
    k: int = Field(DEFAULT_K, ge=1, le=MAX_K)
    user_id: UserId = "local"
    everyone: bool = False
    upload_ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    first_page: int | None = Field(None, ge=1)
    last_page: int | None = Field(None, ge=1)
    min_score: float | None = Field(None, ge=0, le=1)
    model: str | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=MAX_ANSWER_TOKENS)

    conversation_id: str | None = None
    cache: bool = True

    @property
    def sees(self) -> str | None:
        """Whose documents: one user's, or None for everybody's."""
        return None if self.everyone else self.user_id

    @property
    def chosen(self) -> SearchFilter:
        """Which chunks the answer may stand on. No other code chooses whose."""
        return SearchFilter(
            user_id=self.sees,
            upload_ids=self.upload_ids,
            names=self.names,
            first_page=self.first_page,
            last_page=self.last_page,
        )


class UploadStatus(StrEnum):
    """Where an upload is. `queued` and `processing` end in `ready` or `failed`; `deleting` ends in nothing."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


class Upload(Frozen):
    """A file in the list of uploads.

    `job_id` is the job that works on it or last did, None when index.py itself does. `indexed_at` is when it last
    became ready, None when it never was: only then, and while it is not being deleted, its chunks are found.
    """

    upload_id: str
    user_id: str
    file_id: str
    name: str
    media_type: str
    bytes: int
    sha256: str
    status: UploadStatus
    job_id: str | None
    pages: int | None = None
    pages_done: int = 0
    chunks: int | None = None
    reason: str | None = None
    error: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    indexed_at: datetime | None = None


class UploadTask(Frozen):
    """What a job is to bring to the state its row asks for, as it travels to a worker."""

    upload_id: str
    user_id: str = "local"


class Document(Frozen):
    """A file being indexed. `path` is where this process can read it."""

    upload_id: str
    path: str
    name: str
    user_id: str = "local"
    media_type: str = "application/pdf"


class Indexed(Frozen):
    """What indexing a document gave. `chunks` is the number of points now stored for it."""

    upload_id: str
    name: str
    pages: int
    chunks: int


class Removed(Frozen):
    """What is left to say of an upload that was deleted."""

    upload_id: str
    name: str


class Page(Frozen):
    """A page of a document. `number` counts from 1; `label` is the number printed on it, such as `iv`."""

    number: int
    label: str
    text: str


class Chunk(Frozen):
    """A piece of one page: `text` is the page's text from `start` to `end`, in characters.

    `section` is the heading it stands under. The last two serve indexing and are not stored: the text of the whole
    page, on its first chunk, and of the document's first pages, on the document's.
    """

    id: str
    upload_id: str
    user_id: str
    name: str
    index: int
    page: int
    page_label: str
    start: int
    end: int
    text: str
    section: str = ""
    page_text: str = Field("", exclude=True)
    opening: str = Field("", exclude=True)


class Passage(Frozen):
    """A chunk that a search found. Higher scores are better; the scale is the engine's own."""

    chunk: Chunk
    score: float


class SearchFilter(Frozen):
    """Which chunks may be found: one user's, of any upload, name and page where those are None.

    `user_id` has no default, so that nobody searches everything by leaving it out: None, everybody's, is said aloud.
    Never those of the `hidden` uploads.
    """

    user_id: str | None
    upload_ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    first_page: int | None = None
    last_page: int | None = None
    hidden: tuple[str, ...] = ()


class Source(Frozen):
    """A passage an answer stands on. `quote` is an exact part of the text of that page."""

    n: int = Field(description="The number by which the answer cites it, as in [1].")
    upload_id: str
    name: str = Field(description="Name of the document.")
    page: int = Field(description="Page of the document, counted from 1.")
    page_label: str = Field(description="Number printed on that page, such as iv.")
    quote: str = Field(description="Exact text of that page.")
    score: float = Field(description="How well the passage fits the question, 0 to 1.")
    start: int = Field(0, description="Where the quote begins in the text of that page, in characters.")
    end: int = Field(0, description="Where the quote ends there.")
    section: str = Field("", description="Heading the passage stands under.")


class Usage(Frozen):
    """Tokens a question cost, as the model provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Completion(Frozen):
    """What a chat model said, which model it was, and what it cost."""

    text: str
    model: str
    usage: Usage | None = None


class Turn(Frozen):
    """A question of a conversation, as it reads alone, and its answer."""

    job_id: str
    question: str
    answer: str


class Used(Frozen):
    """What a question was answered with. `model` is None when the answer was quoted and not generated."""

    k: int
    min_score: float | None = None
    upload_ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    first_page: int | None = None
    last_page: int | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    embedding_model: str | None = Field(None, description="None when search was by words alone.")
    reranker: str = Field("none", description="What ordered the passages: an endpoint's model, or `closeness`.")
    passages: int = Field(0, description="How many passages the answer could stand on.")


class Link(Frozen):
    """An image or a link in an answer. The service never fetches one."""

    kind: Literal["image", "link"] = Field(
        description="`image`: what shows the answer may fetch it by itself, as also frames and style sheets in HTML; "
        "`link`: only when followed."
    )
    url: str = Field(description="As it stands in the answer; it may be relative, and of any scheme.")
    text: str = Field(description="The words of the link or the image.")
    in_sources: bool = Field(description="Whether this very URL stands in a passage that the answer was made from.")


class Answer(Frozen):
    """An answer to a question. `answered` is True when a source supports at least a part of it.

    It is False when nothing relevant was found, when the model says so in whatever words, and when no source supports
    what it says instead; `sources` is then empty, and the text cites nothing.

    `cached` tells that the same question was answered before over the same documents. `rewritten` is the question as
    it was searched for, where a conversation made that another. `unsupported` counts citations that were taken out
    because their source does not support them. `times` are seconds in each stage: queue, embed, search, rerank, model.
    `links` are all images and links in the text.
    """

    text: str
    sources: tuple[Source, ...] = ()
    answered: bool = True
    unsupported: int = 0
    used: Used | None = None
    usage: Usage | None = None
    times: dict[str, float] = {}
    links: tuple[Link, ...] = ()
    cached: bool = False
    rewritten: str | None = None


class Progress(Frozen):
    """How far a started job is: `done` of `total` pages, or only the stage when it cannot be counted."""

    stage: str
    done: int | None = None
    total: int | None = None


class Failure(Frozen):
    """Why a job failed: a sentence for the user, and a code for programs."""

    code: str
    detail: str


class Event(Frozen):
    """Something that happened to a job. `id` orders events and is where a reader goes on."""

    id: str
    type: str
    data: dict[str, object]


class JobView(Frozen):
    """A job as the queue knows it.

    `position` counts from 1, the next to run; None unless queued. `expected_wait_seconds` is None also when no job
    of the queue ended of late.
    """

    job_id: str
    kind: Literal["chat", "document", "webhook"]
    owner: str = "local"
    status: JobStatus
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    position: int | None = None
    expected_wait_seconds: float | None = None
    progress: Progress | None = None
    result: dict[str, object] | None = None
    failure: Failure | None = None
