"""POST /v1/responses/compact and /input_tokens: a conversation made short, and the size of a request."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.dependencies import require_scope
from api.v1 import ids
from api.v1.bodies import Asked, compaction_item, read_body, read_turns
from api.v1.errors import ApiError, OpenAIRoute
from api.v1.models import chosen_model, store_of_model
from api.v1.response_objects import usage
from api.v1.response_requests import MAX_ITEMS
from api.v1.responses import load_response
from api.v1.sending import JsonResponse
from client.rq.ids import new_id
from schemas import MAX_HISTORY, Answer, JobStatus, KeyScope, Turn, Usage

# A token of a model has about this many bytes of text. No provider is asked.
BYTES_PER_TOKEN: Final = 4

# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(
    prefix="/v1",
    route_class=OpenAIRoute,
    dependencies=[require_scope(KeyScope.QUERY)],
    include_in_schema=False,
)


class _Input(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    input: str | Annotated[list[Any], Field(max_length=MAX_ITEMS)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None

    def read(self) -> Asked:
        """Return what the input says. Raises ApiError."""
        if self.input is None and self.previous_response_id is None:
            raise ApiError("input: is required", code="invalid_request_error", param="input")
        if isinstance(self.input, str):
            return Asked(question=self.input)
        return read_turns(self.input or [], param="input")


class _Compact(_Input):
    model: Annotated[str, StringConstraints(max_length=200)]


@router.post("/responses/compact")
async def compact(request: Request) -> Response:
    """Return one item that stands for the last turns: send it as the first of the next input.

    OpenAI also returns the messages of the user, which its SDK's own type of this answer refuses. They are in the item.
    """
    body, _ = await read_body(request, _Compact)
    chosen_model(store_of_model(body.model)[1], request.state.settings)
    asked = body.read()
    turns = [*await _earlier(request, body.previous_response_id), *asked.turns]
    if asked.question:
        turns.append(Turn(job_id="", question=asked.question, answer=""))
    name = new_id()
    answer = {
        "id": ids.to_theirs(ids.RESPONSE, name),
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [compaction_item(ids.to_theirs("cmp_", name), turns[-MAX_HISTORY:])],
        "usage": usage(Usage()),
    }
    return JsonResponse(answer)


@router.post("/responses/input_tokens")
async def count_input_tokens(request: Request) -> Response:
    """Estimate how many tokens the texts of a request have. The passages that a question finds are not counted."""
    body, _ = await read_body(request, _Input)
    asked = body.read()
    turns = [*await _earlier(request, body.previous_response_id), *asked.turns]
    texts = [body.instructions or "", *asked.wishes, asked.question]
    texts += [text for turn in turns for text in (turn.question, turn.answer)]
    tokens = sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts)
    return JsonResponse({"object": "response.input_tokens", "input_tokens": tokens})


async def _earlier(request: Request, response_id: str | None) -> list[Turn]:
    """Return the turns that end with a response, oldest first. Raises ApiError for a response that does not exist."""
    turns: list[Turn] = []
    while response_id is not None and len(turns) < MAX_HISTORY:
        try:
            job, asked = await load_response(request, response_id, param="previous_response_id")
        except ApiError:
            if not turns:
                raise
            break  # an earlier one has expired
        if job.status is JobStatus.FINISHED:
            answer = Answer.model_validate(job.result)
            turns.insert(0, Turn(job_id=job.job_id, question=asked.question, answer=answer.text))
        response_id = asked.request.given.get("previous_response_id")
    return turns
