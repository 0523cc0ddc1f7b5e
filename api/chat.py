"""Asking: POST /chat."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

import schemas
from api.callbacks import Metadata, WebhookUrl, tell
from api.dependencies import CurrentSettings, Queue, User, Webhooks
from api.problems import describe
from errors import InvalidRequest
from schemas import DEFAULT_K, MAX_K, JobStatus, Priority, QuestionText

router = APIRouter(tags=["chat"])

EXAMPLE = "How long does the battery last?"

QuestionParameter = Annotated[
    QuestionText | None, Query(description="The question.", openapi_examples={"question": {"value": EXAMPLE}})
]
KParameter = Annotated[int, Query(ge=1, le=MAX_K, description="How many passages the answer may stand on.")]
PriorityParameter = Annotated[Priority, Query(description="`high` enters the queue at the front.")]
WebhookUrlParameter = Annotated[WebhookUrl, Query()]


class ChatRequest(BaseModel):
    """A question."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"query": EXAMPLE}]})

    query: QuestionText = Field(description="The question.")
    k: int = Field(DEFAULT_K, ge=1, le=MAX_K, description="How many passages the answer may stand on.")
    priority: Priority = Field(Priority.NORMAL, description="`high` enters the queue at the front.")
    webhook_url: WebhookUrl = None
    metadata: Metadata = {}


class Accepted(BaseModel):
    """The question is on the queue. `Location` is where to look next."""

    status: JobStatus = JobStatus.QUEUED
    job_id: str
    message: str = "Your query has been queued for processing"


@router.post("/chat", status_code=202, responses=describe(413, 422, 503))
async def ask(
    queue: Queue,
    webhooks: Webhooks,
    user: User,
    settings: CurrentSettings,
    response: Response,
    query: QuestionParameter = None,
    k: KParameter = DEFAULT_K,
    priority: PriorityParameter = Priority.NORMAL,
    webhook_url: WebhookUrlParameter = None,
    body: Annotated[ChatRequest | None, Body()] = None,
) -> Accepted:
    """Put a question on the queue, given as a query parameter or as a JSON body (which wins over parameters)."""
    if body is None:
        if query is None:
            raise InvalidRequest([("query", "is required, as a query parameter or in a JSON body")])
        body = ChatRequest(query=query, k=k, priority=priority, webhook_url=webhook_url)
    payload: dict[str, Any] = schemas.Query(query=body.query, k=body.k).model_dump(mode="json")
    also = tell(webhooks, settings, user, body.webhook_url, body.metadata)
    job = await queue.submit("chat", payload, priority=body.priority, also=also)
    response.headers["Location"] = f"/job-status/{job.job_id}"
    return Accepted(job_id=job.job_id)
