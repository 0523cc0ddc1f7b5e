"""Asking: POST /chat."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

import schemas
from api.dependencies import CurrentSettings, Queue, Shelf, User
from api.problems import describe
from api.question import QuestionSettings
from client.idempotency import Idempotency
from errors import InvalidRequest
from schemas import DEFAULT_K, MAX_K, JobStatus, Priority, QuestionText

router = APIRouter(tags=["chat"])

MAX_UPLOADS = 100
EXAMPLE = "How long does the battery last?"

QuestionParameter = Annotated[
    QuestionText | None, Query(description="The question.", openapi_examples={"question": {"value": EXAMPLE}})
]
KParameter = Annotated[int, Query(ge=1, le=MAX_K, description="How many passages the answer may stand on.")]
UploadParameter = Annotated[
    list[str] | None, Query(max_length=MAX_UPLOADS, description="Search only these uploads; may be given repeatedly.")
]
AfterParameter = Annotated[
    bool, Query(description="Let the question wait until the uploads it names are indexed, instead of a 409.")
]
PriorityParameter = Annotated[Priority, Query(description="`high` enters the queue at the front.")]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A key of your making for this request. Sent again within 24 h it gives the same job.",
    ),
]


class ChatRequest(QuestionSettings):
    """A question."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"query": EXAMPLE}]})

    query: QuestionText = Field(description="The question.")
    k: int = Field(DEFAULT_K, ge=1, le=MAX_K, description="How many passages the answer may stand on.")
    priority: Priority = Field(Priority.NORMAL, description="`high` enters the queue at the front.")
    upload_id: str | Annotated[list[str], Field(min_length=1, max_length=MAX_UPLOADS)] | None = Field(
        None, description="Search only this upload, or these."
    )
    after_upload: bool = Field(
        default=False, description="Let the question wait until the uploads it names are indexed, instead of a 409."
    )

    @property
    def upload_ids(self) -> tuple[str, ...] | None:
        """The uploads to search, each once; None for all."""
        if self.upload_id is None:
            return None
        return tuple(dict.fromkeys([self.upload_id] if isinstance(self.upload_id, str) else self.upload_id))


class Accepted(BaseModel):
    """The question is on the queue. `Location` is where to look next."""

    status: JobStatus = JobStatus.QUEUED
    job_id: str
    message: str = "Your query has been queued for processing"


@router.post("/chat", status_code=202, responses=describe(404, 409, 413, 422, 503))
async def ask(
    queue: Queue,
    settings: CurrentSettings,
    library: Shelf,
    user: User,
    response: Response,
    query: QuestionParameter = None,
    k: KParameter = DEFAULT_K,
    priority: PriorityParameter = Priority.NORMAL,
    upload_id: UploadParameter = None,
    after_upload: AfterParameter = False,  # noqa: FBT002  a query parameter
    body: Annotated[ChatRequest | None, Body()] = None,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Put a question on the queue, given as a query parameter or as a JSON body (which wins over parameters)."""
    if body is None:
        if query is None:
            raise InvalidRequest([("query", "is required, as a query parameter or in a JSON body")])
        body = ChatRequest(query=query, k=k, priority=priority, upload_id=upload_id or None, after_upload=after_upload)
    uploads = body.upload_ids
    after = await library.jobs_before(uploads, user_id=user, wait=body.after_upload) if uploads else []
    question = schemas.Query(query=body.query, k=body.k, user_id=user, upload_ids=uploads, **body.for_query(settings))
    payload: dict[str, Any] = question.model_dump(mode="json")
    once = None
    if idempotency_key is not None:
        request = {"kind": "chat", "priority": body.priority, **payload}
        once = Idempotency.of(idempotency_key, request, user_id=user)
    job = await queue.submit("chat", payload, priority=body.priority, owner=user, after=after, once=once)
    response.headers["Location"] = f"/job-status/{job.job_id}"
    return Accepted(job_id=job.job_id)
