"""What POST /v1/responses accepts, and the question that becomes of it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

import schemas
from api.callbacks import MetadataKey, MetadataValue
from api.v1 import ids
from api.v1.bodies import Asked, check_question, read_items
from api.v1.errors import ApiError, unsupported
from api.v1.models import DEFAULT_MODEL, chosen_model
from schemas import DEFAULT_K, MAX_ANSWER_TOKENS, MAX_K, Caller, ResponseRequest
from settings import Settings

MAX_ITEMS = 1_000
MAX_TOOLS = 128
MAX_PAIRS = 16
MIN_OUTPUT_TOKENS = 16
MAX_ASKED_TOKENS = 2**31
# The vector store that always exists: every document that the caller may search.
EVERY_DOCUMENT: Final = "vs_all"
# Asked for, and without effect: sent back as they came.
ECHOED = (
    *("top_p", "truncation", "service_tier", "parallel_tool_calls", "max_tool_calls", "reasoning"),
    *("safety_identifier", "prompt_cache_key", "user", "tool_choice", "instructions", "metadata", "temperature"),
    *("max_output_tokens", "previous_response_id"),
)
_Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_PAIRS)]


def _or_empty(value: object) -> object:
    return {} if value is None else value


class CreateResponse(BaseModel):
    """The body. Unknown fields are ignored, as OpenAI's clients add fields with each version."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: Annotated[str, StringConstraints(max_length=200)] = DEFAULT_MODEL
    input: str | Annotated[list[Any], Field(min_length=1, max_length=MAX_ITEMS)]
    instructions: str | None = None
    background: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    include: list[str] | None = None
    metadata: Annotated[_Metadata, BeforeValidator(_or_empty)] = Field(default_factory=dict)
    max_output_tokens: int | None = Field(None, ge=MIN_OUTPUT_TOKENS, le=MAX_ASKED_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    reasoning: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    user: str | None = None


class _RankingOptions(BaseModel):
    ranker: str | None = None
    score_threshold: float | None = Field(None, ge=0, le=1)
    hybrid_search: Any = None


class _FileSearch(BaseModel):
    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=10)]
    max_num_results: int | None = Field(None, ge=1, le=MAX_K)
    filters: Any = None
    ranking_options: _RankingOptions | None = None


def make_query(body: CreateResponse, settings: Settings, caller: Caller) -> schemas.Query:
    """Return the question of a body in the form that workers read. Raises ApiError, ValidationError."""
    _refuse_unsupported(body)
    asked = _read_input(body)
    if body.instructions:
        asked.wishes.insert(0, body.instructions)
    search = _file_search(body)
    options = (search and search.ranking_options) or _RankingOptions()
    previous = body.previous_response_id
    return schemas.Query(
        query=asked.question,
        k=(search and search.max_num_results) or DEFAULT_K,
        min_score=options.score_threshold,
        user_id=caller.user_id,
        everyone=caller.visible_owner is None,
        upload_ids=tuple(dict.fromkeys(asked.upload_ids)) or None,
        model=chosen_model(body.model, settings),
        temperature=body.temperature,
        max_tokens=body.max_output_tokens and min(body.max_output_tokens, MAX_ANSWER_TOKENS),
        history=tuple(asked.turns),
        previous_job_id=previous and ids.to_ours(ids.RESPONSE, previous, param="previous_response_id"),
        instructions=asked.instructions,
        request=_remembered(body),
    )


def _read_input(body: CreateResponse) -> Asked:
    if isinstance(body.input, str):
        return Asked(question=check_question(body.input, param="input"))
    return read_items(body.input, param="input")


def _remembered(body: CreateResponse) -> ResponseRequest:
    """Return what GET /v1/responses/{id} repeats of the request."""
    message = {"type": "message", "role": "user", "content": body.input} if isinstance(body.input, str) else None
    given = body.model_dump(mode="json", include=set(ECHOED), exclude_none=True)
    return ResponseRequest(
        model=body.model,
        input=(message,) if message else tuple(body.input),
        background=bool(body.background),
        store=body.store is not False,
        tools=tuple(_shown_tool(tool) for tool in body.tools or ()),
        include=tuple(body.include or ()),
        given=given,
    )


def _shown_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool with the members that the answer must have."""
    if tool["type"] != "function":
        return tool
    return {"strict": None, "parameters": None, "description": None} | tool


def _file_search(body: CreateResponse) -> _FileSearch | None:
    """Return the tool that searches files; None without it. Raises ApiError, ValidationError."""
    for number, tool in enumerate(body.tools or ()):
        if tool.get("type") != "file_search":
            continue
        at = f"tools[{number}]"
        search = _FileSearch.model_validate(tool)
        for store_id in search.vector_store_ids:
            if store_id != EVERY_DOCUMENT:
                message = f"there is no vector store with this id: {EVERY_DOCUMENT} has all your documents"
                param = f"{at}.vector_store_ids"
                raise ApiError(message, code="vector_store_not_found", param=param, status=404)
        if search.filters is not None:
            raise unsupported(f"{at}.filters", "files have no attributes to filter by: leave filters out")
        options = search.ranking_options or _RankingOptions()
        if options.hybrid_search is not None:
            raise unsupported(f"{at}.ranking_options.hybrid_search", "weights cannot be chosen: leave them out")
        if options.ranker == "none":
            raise unsupported(f"{at}.ranking_options.ranker", "the ranker cannot be left out: use auto")
        return search
    return None


def _refuse_unsupported(body: CreateResponse) -> None:
    """Raise ApiError for what OpenAI answers and this service does not."""
    if body.conversation is not None:
        if body.previous_response_id is not None:
            raise unsupported("conversation", "conversation and previous_response_id exclude each other: send one")
        raise unsupported("conversation", "conversations are not kept: send previous_response_id")
    if body.prompt is not None:
        raise unsupported("prompt", "prompts are not stored here: send instructions")
    if (body.top_logprobs or 0) > 0:
        raise unsupported("top_logprobs", "probabilities of tokens are not known: leave top_logprobs out")
    wanted = (body.text or {}).get("format")
    if isinstance(wanted, dict) and wanted.get("type", "text") != "text":
        raise unsupported("text.format.type", "answers are text: leave format out")
    known = {"function", "file_search"}
    for number, tool in enumerate(body.tools or ()):
        if tool.get("type") not in known:
            raise unsupported(f"tools[{number}].type", "this tool is not run here: send file_search or function")
    check_tool_choice(body.tool_choice, {str(tool["type"]) for tool in body.tools or ()})


def check_tool_choice(choice: str | dict[str, Any] | None, given: set[str]) -> None:
    """Raise ApiError if a function is to be called. `given`: the types of the tools."""
    forced = choice.get("type") if isinstance(choice, dict) else choice
    if forced in {None, "auto", "none"} or (forced in {"required", "file_search"} and "file_search" in given):
        return
    raise unsupported("tool_choice", "no function is ever called: send auto, or leave tool_choice out")
