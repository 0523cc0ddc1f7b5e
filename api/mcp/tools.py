"""The tools: their names, what they take, what they do, and which scope of a key they need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from mcp_types import CallToolResult, Tool, ToolAnnotations
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.mcp.asking import MAX_WAIT_SECONDS, look_up, question_of, wait
from api.mcp.calls import Call
from api.mcp.documents import DocumentsView, UploadedView, list_documents, read_page, store
from api.mcp.results import AnswerView, PageView, SearchView, answer_result, passages_result, schema_of, structured
from api.mcp.tasks import task_of
from api.question_settings import DocumentName
from schemas import MAX_K, KeyScope, QuestionText, UploadStatus, check_text

MAX_DOCUMENTS: Final = 100
MAX_LISTED: Final = 100
_Text = Annotated[str, AfterValidator(check_text)]
_Documents = Annotated[list[Annotated[DocumentName, AfterValidator(check_text)]], Field(max_length=MAX_DOCUMENTS)]
_JobId = Annotated[str, StringConstraints(max_length=64), AfterValidator(check_text)]
_DOCUMENTS = "Search only these documents: ids or names. All documents if left out."


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ask(_Arguments):
    """The arguments of `ask`."""

    question: QuestionText = Field(description="The question, in full sentences and any language.")
    documents: _Documents | None = Field(None, description=_DOCUMENTS)
    conversation: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None, description="A name that you make up: its questions are understood in the light of the earlier ones."
    )
    background: bool = Field(default=False, description="Return a job_id at once, for get_answer.")


class GetAnswer(_Arguments):
    """The arguments of `get_answer`."""

    job_id: _JobId = Field(description="The job_id that ask returned.")
    wait: float = Field(30, ge=0, le=MAX_WAIT_SECONDS, description="Longest time to wait for the answer, in seconds.")


class Search(_Arguments):
    """The arguments of `search`."""

    query: QuestionText = Field(description="What to look for.")
    documents: _Documents | None = Field(None, description=_DOCUMENTS)
    limit: int = Field(10, ge=1, le=MAX_K, description="Largest number of passages.")


class Fetch(_Arguments):
    """The arguments of `fetch`."""

    id: Annotated[_Text, StringConstraints(max_length=200)] = Field(description="The id of a passage, from search.")


class ListDocuments(_Arguments):
    """The arguments of `list_documents`."""

    name: DocumentName | None = Field(None, description="Only documents with this in their name.")
    status: UploadStatus | None = Field(None, description="Only documents with this status.")
    limit: int = Field(50, ge=1, le=MAX_LISTED)
    cursor: Annotated[str, StringConstraints(max_length=100)] | None = None


class Upload(_Arguments):
    """The arguments of `upload`."""

    name: Annotated[DocumentName, AfterValidator(check_text)] = Field(
        description="File name with its ending, such as notes.md."
    )
    text: _Text | None = Field(None, description="The content of a text file.")
    base64: str | None = Field(None, description="The content of any other file, in base64; at most 1 MiB.")


async def _ask(call: Call, given: Ask) -> CallToolResult | dict[str, Any]:
    query = question_of(call, given.question, given.documents, conversation_id=given.conversation)
    job_id = await call.asking.submit(query, wait_for_uploads=True)
    owner = call.caller.visible_owner
    if call.takes_tasks and not given.background:
        return task_of(call, await call.queue.fetch(job_id, owner=owner), created=True)
    if given.background:
        return answer_result(await call.queue.fetch(job_id, owner=owner))
    return answer_result(await wait(call, job_id, MAX_WAIT_SECONDS, cancelling=True))


async def _get_answer(call: Call, given: GetAnswer) -> CallToolResult:
    return answer_result(await wait(call, given.job_id, given.wait, cancelling=False))


async def _search(call: Call, given: Search) -> CallToolResult:
    query = question_of(call, given.query, given.documents, k=given.limit, only="passages")
    return passages_result(call, await look_up(call, query))


async def _fetch(call: Call, given: Fetch) -> CallToolResult:
    return structured(await read_page(call, given.id))


async def _list_documents(call: Call, given: ListDocuments) -> CallToolResult:
    return structured(await list_documents(call, **given.model_dump()))


async def _upload(call: Call, given: Upload) -> CallToolResult:
    return structured(await store(call, given.name, text=given.text, base64=given.base64))


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A tool: what clients see of it, its arguments, what it does, and the scopes of which a caller needs one."""

    tool: Tool
    arguments: type[BaseModel]
    run: Callable[[Call, Any], Awaitable[CallToolResult | dict[str, Any]]]
    scopes: tuple[KeyScope, ...] = (KeyScope.QUERY,)


def _entry(
    title: str,
    description: str,
    arguments: type[BaseModel],
    result: type[BaseModel],
    run: Callable[[Call, Any], Awaitable[CallToolResult | dict[str, Any]]],
    *,
    scopes: tuple[KeyScope, ...] = (KeyScope.QUERY,),
    changes: bool = False,
) -> ToolEntry:
    hints = ToolAnnotations(
        read_only_hint=not changes, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    tool = Tool(
        name=run.__name__.removeprefix("_"),
        title=title,
        description=description,
        input_schema=schema_of(arguments),
        output_schema=schema_of(result),
        annotations=hints,
    )
    return ToolEntry(tool, arguments, run, scopes)


_ANY: Final = (KeyScope.QUERY, KeyScope.UPLOAD)
_ENTRIES: Final = (
    _entry(
        "Ask the documents",
        "Answer a question from the user's own documents. The answer cites the pages that it stands on. Takes seconds "
        "to minutes; if it takes longer than 50 s, the result has a job_id for get_answer.",
        Ask,
        AnswerView,
        _ask,
    ),
    _entry(
        "Get an answer", "Return the answer to a question that was asked before.", GetAnswer, AnswerView, _get_answer
    ),
    _entry(
        "Search the documents",
        "Find passages of the user's documents by words and meaning, without an answer. Each has its page.",
        Search,
        SearchView,
        _search,
    ),
    _entry("Read a page", "Return the whole text of a page that search found.", Fetch, PageView, _fetch),
    _entry(
        "List the documents",
        "List the user's documents, newest first, with their ids and whether they can be searched.",
        ListDocuments,
        DocumentsView,
        _list_documents,
        scopes=_ANY,
    ),
    _entry(
        "Upload a document",
        "Add a small document, so that it can be asked and searched. Use it only if the user wants that.",
        Upload,
        UploadedView,
        _upload,
        scopes=(KeyScope.UPLOAD,),
        changes=True,
    ),
)
TOOLS: Final[Mapping[str, ToolEntry]] = {entry.tool.name: entry for entry in _ENTRIES}
