"""POST /v1/chat/completions: a question as the last message of a chat."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

import schemas
from api.citation_links import citation_links
from api.dependencies import require_scope
from api.questions import Asking
from api.routes.events import follow
from api.v1 import bodies
from api.v1.bodies import read_body, read_items
from api.v1.chat_objects import Asker, CompletionStream, completion
from api.v1.chat_tasks import TASK_NAME, chat_task
from api.v1.errors import OpenAIRoute, unsupported
from api.v1.models import DEFAULT_MODEL, chosen_model, store_of_model
from api.v1.repeats import repeated_request
from api.v1.response_objects import Asked
from api.v1.response_requests import MAX_ASKED_TOKENS, MAX_ITEMS, MAX_TOOLS, check_tool_choice
from api.v1.sending import JsonResponse, StreamedResponse
from api.v1.store_lookups import require_stores
from api.v1.waiting import cancelling_when_left, wait_for_end
from client.rq.event_stream import BEFORE_FIRST_ID
from client.rq_client import JobQueue
from schemas import MAX_ANSWER_TOKENS, Caller, KeyScope, ResponseRequest
from settings import Settings

# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(
    prefix="/v1", route_class=OpenAIRoute, dependencies=[require_scope(KeyScope.QUERY)], include_in_schema=False
)


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class CreateChatCompletion(BaseModel):
    """The body. Unknown fields are ignored: so are the fields that choose how a model samples."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: Annotated[str, StringConstraints(max_length=200)] = DEFAULT_MODEL
    messages: Annotated[list[Any], Field(min_length=1, max_length=MAX_ITEMS)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1, le=MAX_ASKED_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_ASKED_TOKENS)
    n: int | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None

    def as_query(self, settings: Settings, caller: Caller) -> schemas.Query:
        """Return the question in the form that workers read. Raises ApiError."""
        self._refuse_unsupported()
        store, model = store_of_model(self.model)
        task = chat_task(self.messages, settings)
        asked = bodies.Asked(question=TASK_NAME) if task is not None else read_items(self.messages, param="messages")
        tokens = self.max_completion_tokens or self.max_tokens
        return schemas.Query(
            query=asked.question,
            user_id=caller.user_id,
            everyone=caller.visible_owner is None,
            upload_ids=tuple(dict.fromkeys(asked.upload_ids)) or None,
            model=chosen_model(model, settings),
            store_ids=None if store is None else (store,),
            temperature=self.temperature,
            max_tokens=tokens and min(tokens, MAX_ANSWER_TOKENS),
            history=tuple(asked.turns),
            instructions=asked.instructions,
            task=task,
        )

    def _refuse_unsupported(self) -> None:
        if self.n not in {None, 1}:
            raise unsupported("n", "there is one answer: send 1, or leave n out")
        if self.logprobs:
            raise unsupported("logprobs", "probabilities of tokens are not known: leave logprobs out")
        if (self.response_format or {}).get("type", "text") != "text":
            raise unsupported("response_format.type", "answers are text: leave response_format out")
        for choice in (self.tool_choice, self.function_call):
            check_tool_choice(choice, set())


@router.post("/chat/completions")
async def create(request: Request) -> Response:
    """Ask a question, and return its answer when it is there, or in chunks as it is written."""
    body, given = await read_body(request, CreateChatCompletion)
    state = request.state
    queue: JobQueue = state.queue
    query = body.as_query(state.settings, state.caller)
    await require_stores(request, query.store_ids or (), param="model")
    asking = Asking(state.settings, queue, state.documents, state.quotas, state.caller)
    idempotency, job_id = await repeated_request(request, {"kind": "chat completion", **given}, queue)
    job_id = await asking.submit(query, idempotency=idempotency, job_id=job_id, wait_for_uploads=True)
    owner = state.caller.visible_owner
    counts_tokens = bool(body.stream_options and body.stream_options.include_usage)
    job = await queue.fetch(job_id, owner=owner)
    asked = Asked.of_query(job, query, await citation_links(request))
    asker = Asker(replace(asked, request=ResponseRequest(model=body.model)), body.model, counts_tokens=counts_tokens)
    if not body.stream:
        return JsonResponse(completion(asker, await wait_for_end(request, job_id)))
    parts = follow(job_id, BEFORE_FIRST_ID, queue, owner=owner, renderer=CompletionStream(asker))
    return StreamedResponse(cancelling_when_left(parts, queue, job_id))
