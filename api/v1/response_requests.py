"""What POST /v1/responses accepts, and the question that becomes of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

import schemas
from api.callbacks import MetadataKey, MetadataValue, few_pairs
from api.v1 import ids
from api.v1.bodies import Asked, check_question, read_items
from api.v1.errors import invalid, unsupported
from api.v1.file_search import FileSearch
from api.v1.models import DEFAULT_MODEL, chosen_model, store_of_model
from api.v1.response_objects import FILE_SEARCH_RESULTS
from schemas import MAX_ANSWER_TOKENS, Caller, ResponseRequest
from settings import Settings

MAX_ITEMS = 1_000
MAX_TOOLS = 128
MAX_INCLUDED = 100
MAX_PAIRS = 16
MIN_OUTPUT_TOKENS = 16
MAX_ASKED_TOKENS = 2**31
# Requests may name others, such as `none`, which OpenAI's type of a response refuses.
SHOWN_RANKERS = {"auto", "default-2024-11-15"}
# Asked for, and without effect: sent back as they came.
ECHOED = (
    *("top_p", "truncation", "service_tier", "parallel_tool_calls", "max_tool_calls", "reasoning"),
    *("safety_identifier", "prompt_cache_key", "user", "tool_choice", "instructions", "metadata", "temperature"),
    *("max_output_tokens", "previous_response_id"),
)
_Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_PAIRS), few_pairs(MAX_PAIRS)]


def _or_empty(value: object) -> object:
    return {} if value is None else value


class _ConversationId(BaseModel):
    id: str


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
    conversation: str | _ConversationId | None = None
    prompt: Any = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    include: Annotated[list[str], Field(max_length=MAX_INCLUDED)] | None = None
    metadata: Annotated[_Metadata, BeforeValidator(_or_empty)] = Field(default_factory=dict)
    max_output_tokens: int | None = Field(None, ge=MIN_OUTPUT_TOKENS, le=MAX_ASKED_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: Annotated[str, StringConstraints(max_length=64)] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = Field(None, ge=1)
    reasoning: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    user: str | None = None

    @property
    def conversation_id(self) -> str | None:
        """The conversation that the response is a part of."""
        return self.conversation.id if isinstance(self.conversation, _ConversationId) else self.conversation


def make_query(body: CreateResponse, settings: Settings, caller: Caller) -> schemas.Query:
    """Return the question of a body in the form that workers read. Raises ApiError, ValidationError."""
    _refuse_unsupported(body)
    asked = _read_input(body)
    if body.instructions:
        asked.wishes.insert(0, body.instructions)
    store, model = store_of_model(body.model)
    search = _file_search(body)
    options: dict[str, Any] = {} if search is None else search.query_options()
    if store is not None:
        options.setdefault("store_ids", (store,))
    previous = body.previous_response_id
    return schemas.Query(
        query=asked.question,
        user_id=caller.user_id,
        everyone=caller.visible_owner is None,
        upload_ids=tuple(dict.fromkeys(asked.upload_ids)) or None,
        model=chosen_model(model, settings),
        temperature=body.temperature,
        max_tokens=body.max_output_tokens and min(body.max_output_tokens, MAX_ANSWER_TOKENS),
        conversation_id=body.conversation_id,
        history=tuple(asked.turns),
        previous_job_id=previous and ids.to_ours(ids.RESPONSE, previous, param="previous_response_id"),
        instructions=asked.instructions,
        request=_remembered(body),
        passages=search is not None and FILE_SEARCH_RESULTS in (body.include or ()),
        **options,
    )


def _read_input(body: CreateResponse) -> Asked:
    if isinstance(body.input, str):
        return Asked(question=check_question(body.input, param="input"))
    return read_items(body.input, param="input")


def _remembered(body: CreateResponse) -> ResponseRequest:
    """Return what GET /v1/responses/{id} repeats of the request."""
    message = {"type": "message", "role": "user", "content": body.input} if isinstance(body.input, str) else None
    given = body.model_dump(mode="json", include=set(ECHOED), exclude_none=True)
    if body.conversation_id is not None:
        given["conversation"] = {"id": body.conversation_id}
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
    """Return a tool with the members that the answer must have, and without values that its type does not know."""
    if tool["type"] == "function":
        return {"strict": None, "parameters": None, "description": None} | tool
    ranking = tool.get("ranking_options")
    if ranking is None or ranking.get("ranker") in SHOWN_RANKERS:
        return tool
    return tool | {"ranking_options": {name: value for name, value in ranking.items() if name != "ranker"}}


def _file_search(body: CreateResponse) -> FileSearch | None:
    """Return the tool that searches files; None without it. Raises ApiError, RequestValidationError."""
    for number, tool in enumerate(body.tools or ()):
        if tool.get("type") == "file_search":
            try:
                search = FileSearch.model_validate(tool)
            except ValidationError as error:
                raise invalid(error, f"tools[{number}]") from None
            search.check(f"tools[{number}].")
            return search
    return None


def _refuse_unsupported(body: CreateResponse) -> None:
    """Raise ApiError for what OpenAI answers and this service does not."""
    if body.conversation is not None and body.previous_response_id is not None:
        raise unsupported("conversation", "conversation and previous_response_id exclude each other: send one")
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
