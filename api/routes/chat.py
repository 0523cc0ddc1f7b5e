"""Asking: POST /chat."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, StringConstraints

import schemas
from api.callbacks import Metadata, WebhookUrl, callback_of
from api.dependencies import (
    CallerDep,
    DocumentServiceDep,
    JobQueueDep,
    QuotasDep,
    ScopedRoute,
    SettingsDep,
    require_scope,
)
from api.problems import openapi_problems
from api.question_settings import Names, QuestionSettings, clean_names
from client.rq.idempotency import IdempotentRequest
from errors import InvalidRequest
from observability import logs
from schemas import DEFAULT_K, MAX_K, Caller, JobStatus, KeyScope, Priority, QuestionText
from settings import Settings

router = APIRouter(route_class=ScopedRoute, tags=["chat"], dependencies=[require_scope(KeyScope.QUERY)])

MAX_UPLOADS = 100
UploadIds = Annotated[list[str], Field(min_length=1, max_length=MAX_UPLOADS)]
PRIORITY_SAYS = (
    "`high` enters the queue at the front; `low` lets your other questions pass, for ten minutes at the most."
)
EXAMPLE = "How long does the battery last?"

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A key of your making for this request. Sent again within 24 h it gives the same job.",
    ),
]


class _Question(QuestionSettings):
    """What may be said of a question in either way of asking it."""

    k: int = Field(DEFAULT_K, ge=1, le=MAX_K, description="How many passages the answer may stand on.")
    priority: Priority = Field(Priority.NORMAL, description=PRIORITY_SAYS)
    after_upload: bool = Field(
        default=False, description="Let the question wait until the uploads it names are indexed, instead of a 409."
    )
    conversation_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None,
        description="A name of your making. Questions of one conversation are answered in order, each understood by "
        "those before it.",
    )
    webhook_url: WebhookUrl = None


class ChatRequest(_Question):
    """A question."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"query": EXAMPLE}]})

    query: QuestionText = Field(description="The question.")
    upload_id: str | UploadIds | None = Field(None, description="Search only this upload, or these.")
    metadata: Metadata = Field(default_factory=dict)

    def as_query(self, settings: Settings, caller: Caller) -> schemas.Query:
        """Return the question as it travels to a worker. Raises InvalidRequest for a model that is not allowed."""
        return schemas.Query(
            query=self.query,
            k=self.k,
            user_id=caller.user_id,
            everyone=caller.visible_owner is None,
            upload_ids=self.upload_ids,
            conversation_id=self.conversation_id,
            **self.for_query(settings),
        )

    @property
    def upload_ids(self) -> tuple[str, ...] | None:
        """The uploads to search, each once; None for all."""
        if self.upload_id is None:
            return None
        return tuple(dict.fromkeys([self.upload_id] if isinstance(self.upload_id, str) else self.upload_id))


class _Asked(BaseModel):
    query: QuestionText | None = Field(None, description="The question.")


class ChatParameters(_Question, _Asked):  # the last one's field comes first
    """The same as query parameters."""

    model_config = ConfigDict(extra="forbid")

    upload_id: UploadIds | None = Field(None, description="Search only these uploads; may be given repeatedly.")
    name: Annotated[Names | None, AfterValidator(clean_names)] = Field(
        None, description="Search only documents of this name; may be given repeatedly."
    )
    metadata: Json[Metadata] | None = Field(None, description="The same as a JSON object.")

    def as_request(self) -> ChatRequest:
        """Return the question these ask. Raises InvalidRequest when there is none."""
        if self.query is None:
            raise InvalidRequest([("query", "is required, as a query parameter or in a JSON body")])
        return ChatRequest.model_validate(self.model_dump(exclude_none=True))


class Accepted(BaseModel):
    """The question is on the queue. `Location` is where to look next."""

    status: JobStatus = JobStatus.QUEUED
    job_id: str
    message: str = "Your query has been queued for processing"


@router.post("/chat", status_code=202, responses=openapi_problems(404, 409, 410, 413, 422, 503))
async def ask(
    queue: JobQueueDep,
    settings: SettingsDep,
    library: DocumentServiceDep,
    caller: CallerDep,
    quotas: QuotasDep,
    response: Response,
    parameters: Annotated[ChatParameters, Query()],
    body: Annotated[ChatRequest | None, Body()] = None,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Put a question on the queue, given as a query parameter or as a JSON body (which wins over parameters)."""
    body = body or parameters.as_request()
    callback = callback_of(settings, body.webhook_url, body.metadata)
    payload: dict[str, Any] = body.as_query(settings, caller).model_dump(mode="json")
    once = None
    if idempotency_key is not None:
        request = {"kind": "chat", **body.model_dump(mode="json"), "upload_id": body.upload_ids}
        once = IdempotentRequest.of(idempotency_key, request, user_id=caller.user_id)
        # Before all that may have changed since: limits, and the uploads it asks about.
        before = await queue.find_earlier(once)
        if before is not None:
            return _accepted(before, response)
    await quotas.require_tokens(caller.user_id)
    uploads = body.upload_ids
    after = (
        await library.prerequisite_jobs(uploads, user_id=caller.visible_owner, wait=body.after_upload)
        if uploads
        else []
    )
    job = await queue.submit(
        "chat",
        payload,
        priority=body.priority,
        owner=caller.user_id,
        after=after,
        idempotency=once,
        callback=callback,
        conversation_id=body.conversation_id,
        max_waiting=settings.max_queued_jobs,
    )
    return _accepted(job.job_id, response)


def _accepted(job_id: str, response: Response) -> Accepted:
    logs.add_context(job_id=job_id)
    response.headers["Location"] = f"/job-status/{job_id}"
    return Accepted(job_id=job_id)
