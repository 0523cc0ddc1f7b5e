"""Whether the service lives, and whether its parts are there."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.dependencies import CurrentSettings, Queue
from api.problems import MEDIA_TYPE, problem_response
from client.qdrant.health import Condition, vector_store_condition
from client.rq.status import QueueState
from errors import QueueUnavailable
from observability import commands

router = APIRouter(tags=["health"])

# Nobody needs to listen on a queue that is not used yet: only questions are sure to come.
NEEDED_QUEUE = "rag_queries"


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class QueuePart(BaseModel):
    """One queue: how many jobs wait on it, and how many workers listen."""

    name: str
    waiting: int
    workers: int


class Parts(BaseModel):
    valkey: Literal["ready", "unavailable"]
    workers: Literal["ready", "none", "unknown"]
    vector_store: Condition


class Ready(BaseModel):
    """`ready` when questions are taken and answered; `degraded` when they are taken but `warnings` say what lacks."""

    status: Literal["ready", "degraded"]
    parts: Parts
    queues: list[QueuePart]
    warnings: list[str] = Field(description="What to do about each part that is not there.")


@router.get("/health")
async def health() -> Health:
    """Tell that the API process lives."""
    return Health()


@router.get(
    "/ready",
    responses={
        503: {
            "description": "Valkey is away: no question can be taken",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    },
    response_model=Ready,
)
async def ready(queue: Queue, settings: CurrentSettings) -> Ready | Response:
    """Tell, part by part, whether Valkey, workers and the vector store are there."""
    condition = await vector_store_condition(settings)
    try:
        states = await queue.states()
    except QueueUnavailable as error:
        parts = Parts(valkey="unavailable", workers="unknown", vector_store=condition)
        headers = {"Retry-After": str(error.retry_after_seconds)}
        return problem_response(error.status, error.title, error.detail, headers=headers, parts=parts.model_dump())
    warnings = _warnings(states, condition)
    listening = any(state.workers for state in states if state.name == NEEDED_QUEUE)
    return Ready(
        status="degraded" if warnings else "ready",
        parts=Parts(valkey="ready", workers="ready" if listening else "none", vector_store=condition),
        queues=[QueuePart(name=s.name, waiting=s.waiting, workers=len(s.workers)) for s in states],
        warnings=warnings,
    )


def _warnings(states: list[QueueState], condition: Condition) -> list[str]:
    warnings = [
        f"no worker listens on {state.name} ({state.waiting} waiting): run `{commands.script('main.py')} worker`"
        for state in states
        if not state.workers and (state.waiting or state.name == NEEDED_QUEUE)
    ]
    if condition == "empty":
        warnings.append(f"nothing is indexed yet: run `{commands.script('index.py')} PATH`")
    if condition == "unavailable":
        warnings.append("the Qdrant server does not answer: check QDRANT_URL and QDRANT_API_KEY")
    return warnings
