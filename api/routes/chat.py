"""Asking a question: POST /chat."""

from __future__ import annotations

import json
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, StringConstraints

import schemas
from api.callbacks import Metadata, WebhookUrl, make_callback
from api.collections import ChosenCollection, stores_of
from api.dependencies import (
    CallerDep,
    DocumentServiceDep,
    JobQueueDep,
    PoolsDep,
    QuotasDep,
    ScopedRoute,
    SettingsDep,
    VectorStoreRepositoryDep,
    require_scope,
)
from api.plain_requests import PlainRequest, PlainResponse, PlainRoute
from api.problems import openapi_problems
from api.question_settings import DocumentNames, QuestionSettings, check_names
from api.questions import Asking
from auth.quotas import Quotas
from client.rq.idempotency import IdempotentRequest
from client.rq_client import JobQueue
from documents.service import DocumentService
from errors import InvalidRequest
from schemas import DEFAULT_K, MAX_K, Caller, JobStatus, KeyScope, Priority, QuestionText
from settings import Settings

router = APIRouter(route_class=ScopedRoute, tags=["chat"], dependencies=[require_scope(KeyScope.QUERY)])

MAX_UPLOADS = 100
UploadIds = Annotated[list[str], Field(min_length=1, max_length=MAX_UPLOADS)]
PRIORITY_DESCRIPTION = (
    "`high` enters the queue at the front; `low` lets your other questions pass, for at most ten minutes."
)
EXAMPLE = "How long does the battery last?"

# Parameters whose value FastAPI takes as it comes.
_SINGLE_PARAMETERS = frozenset({"query", "k", "priority", "conversation_id", "cache"})

IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A key that you make up for this request. A repeat with this key within 24 h gives the same job.",
    ),
]


class _QuestionOptions(QuestionSettings):
    """The options of a question, the same in a JSON body and in query parameters."""

    k: int = Field(DEFAULT_K, ge=1, le=MAX_K, description="Largest number of passages that the answer may use.")
    priority: Priority = Field(Priority.NORMAL, description=PRIORITY_DESCRIPTION)
    after_upload: bool = Field(
        default=False, description="Let the question wait until the named uploads are indexed, instead of a 409."
    )
    conversation_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None,
        description="A name that you make up. The questions of a conversation are answered in order, and each is "
        "understood in the light of the earlier ones.",
    )
    collection: ChosenCollection = None
    webhook_url: WebhookUrl = None


class ChatRequest(_QuestionOptions):
    """A question."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"query": EXAMPLE}]})

    query: QuestionText = Field(description="The question.")
    upload_id: str | UploadIds | None = Field(None, description="Search only this upload, or these.")
    metadata: Metadata = Field(default_factory=dict)

    def as_query(
        self, settings: Settings, caller: Caller, *, store_ids: tuple[str, ...] | None = None
    ) -> schemas.Query:
        """Return the question in the form that workers read. Raises InvalidRequest for a model that is not allowed.

        `store_ids`: the vector stores of the collection.
        """
        return schemas.Query(
            query=self.query,
            k=self.k,
            user_id=caller.user_id,
            everyone=caller.visible_owner is None,
            upload_ids=self.upload_ids,
            store_ids=store_ids,
            conversation_id=self.conversation_id,
            **self.query_fields(settings),
        )

    @property
    def upload_ids(self) -> tuple[str, ...] | None:
        """The uploads to search, without repetitions; None for all."""
        if self.upload_id is None:
            return None
        return tuple(dict.fromkeys([self.upload_id] if isinstance(self.upload_id, str) else self.upload_id))


class _QueryParameter(BaseModel):
    query: QuestionText | None = Field(None, description="The question.")


class ChatParameters(_QuestionOptions, _QueryParameter):  # pydantic puts the last base's field first
    """A question as query parameters."""

    model_config = ConfigDict(extra="forbid")

    upload_id: UploadIds | None = Field(None, description="Search only these uploads; may be given repeatedly.")
    name: Annotated[DocumentNames | None, AfterValidator(check_names)] = Field(
        None, description="Search only documents of this name; may be given repeatedly."
    )
    metadata: Json[Metadata] | None = Field(
        None, description="Your texts, as a JSON object; each webhook sends them back to you."
    )

    def as_request(self) -> ChatRequest:
        """Return the question as a ChatRequest. Raises InvalidRequest if `query` is missing."""
        if self.query is None:
            raise InvalidRequest([("query", "is required, as a query parameter or in a JSON body")])
        return ChatRequest.model_validate(self.model_dump(exclude_none=True))


class Accepted(BaseModel):
    """The question is on the queue. `Location` is the address of its status."""

    status: JobStatus = JobStatus.QUEUED
    job_id: str
    message: str = "Your query has been queued for processing"


@router.post("/chat", status_code=202, responses=openapi_problems(404, 409, 410, 413, 422, 503))
async def ask(
    queue: JobQueueDep,
    settings: SettingsDep,
    documents: DocumentServiceDep,
    caller: CallerDep,
    quotas: QuotasDep,
    stores: VectorStoreRepositoryDep,
    pools: PoolsDep,
    response: Response,
    parameters: Annotated[ChatParameters, Query()],
    body: Annotated[ChatRequest | None, Body()] = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> Accepted:
    """Put a question on the queue. Send it as query parameters or as a JSON body; with both, the body counts."""
    question = body or parameters.as_request()
    name, user = question.collection, caller.user_id
    job_id = await _accept(
        question,
        settings=settings,
        queue=queue,
        documents=documents,
        caller=caller,
        quotas=quotas,
        idempotency_key=idempotency_key,
        store_ids=None if name is None else (await stores_of([name], stores=stores, pools=pools, user_id=user))[name],
    )
    response.headers["Location"] = f"/job-status/{job_id}"
    return Accepted(job_id=job_id)


async def ask_plainly(request: PlainRequest) -> PlainResponse | None:
    """Answer a question that comes as a JSON body or as single query parameters; None for every other request."""
    question = _plain_question(request)
    if question is None or question.collection is not None:
        return None
    state = request.state
    job_id = await _accept(
        question,
        settings=state["settings"],
        queue=state["queue"],
        documents=state["documents"],
        caller=request.caller,
        quotas=state["quotas"],
    )
    location = (b"location", f"/job-status/{job_id}".encode())
    return PlainResponse(202, Accepted(job_id=job_id).model_dump_json().encode(), [location])


PLAIN_ROUTE = PlainRoute("POST", "/chat", (KeyScope.QUERY,), ask_plainly)


def _plain_question(request: PlainRequest) -> ChatRequest | None:
    """Return the question of a plain request; None for another, and for one that is not valid."""
    if request.header(b"idempotency-key") is not None:
        return None
    try:
        if request.body:
            if request.query_string or request.header(b"content-type") != b"application/json":
                return None
            return ChatRequest.model_validate(json.loads(request.body))
        pairs = parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)
        values = dict(pairs)
        if len(values) < len(pairs) or not values.keys() <= _SINGLE_PARAMETERS:
            return None
        return ChatParameters.model_validate(values).as_request()
    except (ValueError, RecursionError):  # also ValidationError
        return None


async def _accept(
    question: ChatRequest,
    *,
    settings: Settings,
    queue: JobQueue,
    documents: DocumentService,
    caller: Caller,
    quotas: Quotas,
    idempotency_key: str | None = None,
    store_ids: tuple[str, ...] | None = None,
) -> str:
    """Put a question on the queue and return its job's id."""
    callback = make_callback(settings, question.webhook_url, question.metadata)
    return await Asking(settings, queue, documents, quotas, caller).submit(
        question.as_query(settings, caller, store_ids=store_ids),
        idempotency=None if idempotency_key is None else _idempotency(idempotency_key, question, caller),
        priority=question.priority,
        wait_for_uploads=question.after_upload,
        callback=callback,
    )


def _idempotency(key: str, question: ChatRequest, caller: Caller) -> IdempotentRequest:
    fields = {"kind": "chat", **question.model_dump(mode="json"), "upload_id": question.upload_ids}
    return IdempotentRequest.of(key, fields, user_id=caller.user_id)
