"""The nouns of the program as frozen pydantic models. Jobs carry them through the queue as plain data."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from schemas.attribute_filters import AttributeValue
from schemas.base import Frozen as Frozen
from schemas.documents import Chunk as Chunk
from schemas.documents import Document as Document
from schemas.documents import Indexed as Indexed
from schemas.documents import Page as Page
from schemas.documents import PageTable as PageTable
from schemas.documents import PageWarning as PageWarning
from schemas.documents import Place as Place
from schemas.documents import Removed as Removed
from schemas.documents import TableLine as TableLine
from schemas.documents import TextMark as TextMark
from schemas.documents import Upload as Upload
from schemas.documents import UploadStatus as UploadStatus
from schemas.documents import UploadTask as UploadTask
from schemas.responses import ResponseRequest as ResponseRequest

MAX_QUERY_CHARS = 4_000
MAX_K = 50
DEFAULT_K = 6
MAX_ANSWER_TOKENS = 32_768
MAX_INSTRUCTIONS_CHARS = 8_000
MAX_TASK_CHARS = 32_000
MAX_HISTORY = 6


def check_text(value: str) -> str:
    """Return the text unchanged. Raises ValueError for NUL characters and lone surrogates."""
    if "\x00" in value:
        raise ValueError("must not contain a NUL character")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("must be valid Unicode: it contains a lone surrogate")
    return value


_QueryLength = StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUERY_CHARS)
QuestionText = Annotated[str, _QueryLength, AfterValidator(check_text)]


class JobStatus(StrEnum):
    """The status that clients see. `finished`, `failed` and `cancelled` are terminal: they never change."""

    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED}


class Priority(StrEnum):
    """The order within a queue: `high` enters at the front."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


UserId = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(check_text)]


class KeyScope(StrEnum):
    """What a caller may do: ask (`query`), upload documents (`upload`), or both for every user (`admin`)."""

    QUERY = "query"
    UPLOAD = "upload"
    ADMIN = "admin"


DEFAULT_SCOPES = frozenset({KeyScope.QUERY, KeyScope.UPLOAD})


class Caller(Frozen):
    """The user who calls, the user's key, and the scopes of the key. `key_id` is empty without a key."""

    user_id: UserId = "local"
    key_id: str = ""
    scopes: frozenset[KeyScope] = DEFAULT_SCOPES

    def has_scope(self, *scopes: KeyScope) -> bool:
        """Return True if the caller has at least one of the scopes. An admin has all."""
        return KeyScope.ADMIN in self.scopes or not self.scopes.isdisjoint(scopes)

    @property
    def visible_owner(self) -> str | None:
        """The user whose resources the caller sees; None for the resources of all users."""
        return None if KeyScope.ADMIN in self.scopes else self.user_id


class Turn(Frozen):
    """A question of a conversation, rewritten so that it can be understood alone, and its answer."""

    job_id: str
    question: str
    answer: str


# Fields of a query that not every running worker knows during an upgrade.
_LATER_FIELDS = (
    *(
        "history",
        "previous_job_id",
        "instructions",
        "request",
        "only",
        "store_ids",
        "filters",
        "ranker",
        "passages",
        "task",
    ),
)


class Query(Frozen):
    """A question in the form that workers read. With `everyone`, the documents of every user may answer.

    `history` holds earlier turns, oldest first, and `previous_job_id` names the question whose turns come before those.
    `instructions` are wishes about the form of the answer. Workers do not read `request`.

    `only` asks for no answer: for the `passages` that a search finds, best first, or for the `text` of the pages of the
    named upload, from `first_page` on. Either is returned as the sources of an answer without a text.

    `store_ids`: search the documents of these vector stores, and the uploads that are named; `filters` choose among the
    documents by their attributes, as schemas.attribute_filters checks them. `ranker` "none" leaves the endpoint of
    RERANK_URL out. `passages`: the answer lists what was found. `task`: what a chat program wants of the model for its
    own screen, in place of an answer.
    """

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
    history: tuple[Turn, ...] = Field((), max_length=MAX_HISTORY)
    previous_job_id: str | None = None
    instructions: str | None = Field(None, max_length=MAX_INSTRUCTIONS_CHARS)
    request: ResponseRequest | None = None
    only: Literal["passages", "text"] | None = None
    store_ids: tuple[str, ...] | None = Field(None, min_length=1)
    filters: dict[str, Any] | None = None
    ranker: Literal["none"] | None = None
    passages: bool = False
    task: str | None = Field(None, max_length=MAX_TASK_CHARS)

    def payload(self) -> dict[str, Any]:
        """Return the query as a job carries it. Workers of the release before refuse fields that they do not know."""
        unused = {field for field in _LATER_FIELDS if not getattr(self, field)}
        return self.model_dump(mode="json", exclude=unused)

    @property
    def visible_owner(self) -> str | None:
        """The user whose documents may answer; None for the documents of all users."""
        return None if self.everyone else self.user_id

    @property
    def search_filter(self) -> SearchFilter:
        """The chunks that may support the answer. No other code decides whose documents a question searches."""
        return SearchFilter(
            user_id=self.visible_owner,
            upload_ids=self.upload_ids,
            names=self.names,
            first_page=self.first_page,
            last_page=self.last_page,
            store_ids=self.store_ids,
            filters=self.filters,
        )


class Passage(NamedTuple):
    """A chunk that a search found. Higher scores are better; the scale differs between engines."""

    chunk: Chunk
    score: float


class SearchFilter(Frozen):
    """The chunks that a search may find. A field that is None does not restrict the search.

    `user_id` has no default, so that no caller searches everybody's documents by leaving the argument out. Chunks of
    the `hidden` uploads are never found. `store_ids` and `filters` are those of a query: no engine knows them, so they
    are turned into `upload_ids` before.
    """

    user_id: str | None
    upload_ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    first_page: int | None = None
    last_page: int | None = None
    hidden: tuple[str, ...] = ()
    store_ids: tuple[str, ...] | None = None
    filters: dict[str, Any] | None = None


class FoundPassage(Frozen):
    """A passage that a question found, with the attributes of its document in a vector store."""

    upload_id: str
    name: str
    page: int
    page_label: str
    text: str
    score: float
    attributes: dict[str, AttributeValue] = {}  # noqa: RUF012  pydantic copies it


class Source(Frozen):
    """A passage that supports an answer. `quote` is an exact part of the text of its page."""

    n: int = Field(description="The number by which the answer cites the source, as in [1].")
    upload_id: str
    name: str = Field(description="Name of the document.")
    page: int = Field(description="Page of the document, counted from 1.")
    page_label: str = Field(
        description="Number printed on the page, such as iv; in files without pages, section and lines, sheet or slide."
    )
    quote: str = Field(description="Exact text of the page.")
    score: float = Field(description="How well the passage fits the question, 0 to 1.")
    start: int = Field(0, description="Where the quote begins in the text of the page, in characters.")
    end: int = Field(0, description="Where the quote ends in the text of the page, in characters.")
    section: str = Field("", description="Heading above the quote.")
    lines: tuple[int, int] | None = Field(
        None, description="In a text or Markdown file, the first and the last line of the quote, counted from 1."
    )
    highlight: tuple[int, int] | None = Field(
        None, description="Where the sentence that fits the question best begins and ends in `quote`, if it is a part."
    )
    verified: bool | Literal["unchecked"] = Field("unchecked", description="Whether VERIFY_MODEL affirms the claims.")


class Usage(Frozen):
    """The tokens that a question cost, as counted by the model provider."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int | None = Field(None, description="`completion_tokens` for thinking, if need be estimated.")


Confidence = Literal["high", "medium", "low"]
Incomplete = Literal["max_tokens"]  # the model reached its limit of tokens


class Completion(Frozen):
    """The text that a chat model wrote, without its reasoning; the name of the model, and the tokens used."""

    text: str
    model: str
    usage: Usage | None = None
    incomplete: Incomplete | None = None


class Used(Frozen):
    """The settings with which a question was answered. `model` is None if the answer was quoted and not generated."""

    k: int
    min_score: float | None = None
    upload_ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    first_page: int | None = None
    last_page: int | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    embedding_model: str | None = Field(None, description="None if the search was by words alone.")
    reranker: str = Field("none", description="What ordered the passages: the model of an endpoint, or `closeness`.")
    passages: int = Field(0, description="Number of passages that the answer could use.")


class Link(Frozen):
    """An image or a link in an answer. The service never fetches the URL."""

    kind: Literal["image", "link"] = Field(
        description="`image`: a viewer may fetch it by itself, also a frame or style sheet; `link`: only if followed."
    )
    url: str = Field(description="The URL as the answer gives it; it may be relative, and of any scheme.")
    text: str = Field(description="The words of the link or the image.")
    in_sources: bool = Field(description="True if a passage that the answer was made from contains exactly this URL.")


class Answer(Frozen):
    """An answer to a question. `answered` is True if a source supports at least a part of the answer.

    `answered` is False if the search found nothing relevant, if the model refuses, or if no source supports its text:
    then `sources` is empty, and the text cites nothing. If VERIFY_MODEL denies all sources, they stay. `cached` is True
    if the same question was answered before over the same documents. `rewritten` is the question that was searched for,
    if the conversation changed it. `unsupported` counts citations removed because their source does not support them.
    `times` holds seconds: queue, embed, search, rerank, model, verify. `incomplete` says why the model's text was cut.
    `not_searched` counts the user's documents that the search left out, since they were still being indexed.
    `confidence` says how well the best passage fits, in an answer without a model; None in one of a model. `passages`
    are what was found, where the question asks for them.
    """

    text: str
    sources: tuple[Source, ...] = ()
    answered: bool = True
    unsupported: int = 0
    used: Used | None = None
    usage: Usage | None = None
    times: dict[str, float] = {}  # noqa: RUF012  pydantic copies it
    links: tuple[Link, ...] = ()
    cached: bool = False
    rewritten: str | None = None
    incomplete: Incomplete | None = None
    not_searched: int = 0
    confidence: Confidence | None = None
    passages: tuple[FoundPassage, ...] = ()

    def payload(self) -> dict[str, Any]:
        """Return the answer as a job's result. An API of the release before refuses a field that it does not know."""
        return self.model_dump(mode="json", exclude=set() if self.passages else {"passages"})


WAITING_FOR_STORE = "waiting for the vector store"


class Progress(Frozen):
    """How far a started job is: `done` of `total` pages, or only the stage if there is nothing to count."""

    stage: str
    done: int | None = None
    total: int | None = None


class Failure(Frozen):
    """Why a job failed: `detail` is a sentence for the user, `code` is for programs."""

    code: str
    detail: str


class Event(Frozen):
    """An event in the life of a job. Events are ordered by `id`; a reader resumes after the last `id` it has seen."""

    id: str
    type: str
    data: dict[str, object]


class JobView(Frozen):
    """A job as the queue stores it.

    `position` counts from 1, the next job to run; None unless queued. `expected_wait_seconds` is None also if no job of
    the queue ended in the last minute.
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
