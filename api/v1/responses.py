"""Responses: POST /v1/responses asks a question; the other routes read, follow, cancel and delete what became of it.

A response is a job of POST /chat under OpenAI's names.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from api.citation_links import citation_links
from api.dependencies import require_scope
from api.questions import Asking
from api.routes.events import follow
from api.v1 import ids
from api.v1.bodies import read_body
from api.v1.conversations import load_conversation
from api.v1.errors import ApiError, OpenAIRoute, invalid
from api.v1.lists import Limit, Order, page_of
from api.v1.repeats import repeated_request
from api.v1.response_objects import Asked, input_item, response, response_of
from api.v1.response_requests import CreateResponse, make_query
from api.v1.response_stream import BEFORE_FIRST, ResponseStream
from api.v1.sending import JsonResponse, StreamedResponse
from api.v1.store_lookups import require_stores
from api.v1.waiting import cancelling_when_left, wait_for_end
from client.rq.event_stream import BEFORE_FIRST_ID
from client.rq_client import JobQueue
from errors import JobExpired, JobNotFound
from observability import logs
from schemas import JobStatus, JobView, KeyScope

# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(
    prefix="/v1", route_class=OpenAIRoute, dependencies=[require_scope(KeyScope.QUERY)], include_in_schema=False
)


@router.post("/responses")
async def create(request: Request) -> Response:
    """Ask a question, and return its response: when it is answered, at once in the background, or as a stream."""
    body, given = await read_body(request, CreateResponse)
    state = request.state
    queue: JobQueue = state.queue
    try:
        query = make_query(body, state.settings, state.caller)
    except ValidationError as error:
        raise invalid(error) from None
    await require_stores(request, query.store_ids or (), param="tools.vector_store_ids")
    if query.conversation_id is not None:
        await load_conversation(request, query.conversation_id, param="conversation", own=True)
    after = []
    if query.previous_job_id is not None:
        await _load(request, query.previous_job_id, param="previous_response_id")
        after = [query.previous_job_id]
    asking = Asking(state.settings, queue, state.documents, state.quotas, state.caller)
    idempotency, job_id = await repeated_request(request, {"kind": "response", **given}, queue)
    job_id = await asking.submit(query, idempotency=idempotency, job_id=job_id, wait_for_uploads=True, after=after)
    if not body.stream and not body.background:
        job = await wait_for_end(request, job_id)
        return JsonResponse(response_of(Asked.of_query(job, query, await citation_links(request)), job))
    job, asked = await _load(request, job_id, delivering=True)
    if body.stream:
        return _stream(request, asked, BEFORE_FIRST)
    # Clients expect "queued" of what was just accepted, though a worker may have begun.
    return JsonResponse(response_of(asked, job) if job.ended_at else response(asked, "queued"))


@router.get("/responses/{response_id}")
async def retrieve(
    response_id: str,
    request: Request,
    stream: Annotated[bool | None, Query()] = None,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Return a response as it is now; with `stream`, its events after the number `starting_after`."""
    job, asked = await _load(request, _job_id(response_id))
    if stream:
        return _stream(request, asked, BEFORE_FIRST if starting_after is None else starting_after, watching=True)
    return JsonResponse(response_of(asked, job))


@router.post("/responses/{response_id}/cancel")
async def cancel(response_id: str, request: Request) -> Response:
    """Cancel a response in the background."""
    job, asked = await _load(request, _job_id(response_id))
    if not asked.request.background:
        raise ApiError("Cannot cancel a synchronous response.", code="invalid_request_error", param="response_id")
    if job.status in {JobStatus.FINISHED, JobStatus.FAILED}:
        message = f"Cannot cancel a {response_of(asked, job)['status']} response."
        raise ApiError(message, code="invalid_request_error", param="response_id")
    queue: JobQueue = request.state.queue
    job = await queue.cancel(job.job_id, owner=request.state.caller.visible_owner)
    logs.audit("job_cancelled", job_id=job.job_id, status=job.status)
    return JsonResponse(response_of(asked, job))


@router.delete("/responses/{response_id}")
async def delete(response_id: str, request: Request) -> Response:
    """Delete a response, with its job and its events. One that still runs is cancelled."""
    job, _asked = await _load(request, _job_id(response_id))
    queue: JobQueue = request.state.queue
    if not await queue.delete(job.job_id, owner=request.state.caller.visible_owner):
        raise ApiError("the response is about to end: try again", code="server_error", param="response_id", status=503)
    logs.audit("job_deleted", job_id=job.job_id)
    return JsonResponse({"id": response_id, "object": "response", "deleted": True})


@router.get("/responses/{response_id}/input_items")
async def input_items(
    response_id: str,
    request: Request,
    order: Order = "desc",
    after: str | None = None,
    limit: Limit = 20,
) -> Response:
    """List the items that the request sent, the last first."""
    job, asked = await _load(request, _job_id(response_id))
    name = ids.to_theirs(ids.MESSAGE, job.job_id)
    items = [input_item(f"{name}_in{number}", item) for number, item in enumerate(asked.request.input)]
    if order == "desc":
        items.reverse()
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise ApiError("after: no item has this id", code="invalid_request_error", param="after")
        items = items[places[0] + 1 :]
    return JsonResponse(page_of(items[:limit], more=len(items) > limit))


def _job_id(response_id: str) -> str:
    return ids.to_ours(ids.RESPONSE, response_id, param="response_id")


async def load_response(request: Request, response_id: str, *, param: str) -> tuple[JobView, Asked]:
    """Return the job and the request of a response. Raises ApiError for an id that names none of the caller's."""
    return await _load(request, ids.to_ours(ids.RESPONSE, response_id, param=param), param=param)


async def _load(
    request: Request, job_id: str, *, param: str = "response_id", delivering: bool = False
) -> tuple[JobView, Asked]:
    """Read a job and its request. Raises ApiError for one that is unknown, expired, another user's or not stored.

    `delivering`: the response may be one that is not stored, since this request asked for it.
    """
    queue: JobQueue = request.state.queue
    try:
        job, payload = await queue.fetch_with_payload(job_id, owner=request.state.caller.visible_owner)
    except (JobNotFound, JobExpired):
        raise ids.not_found(ids.RESPONSE, param=param) from None
    asked = Asked.of(job, payload, await citation_links(request))
    is_hidden = not asked.request.store and job.status.terminal and not delivering
    if job.kind != "chat" or is_hidden or payload.get("only") is not None:
        raise ids.not_found(ids.RESPONSE, param=param)
    return job, asked


def _stream(request: Request, asked: Asked, after: int, *, watching: bool = False) -> Response:
    """Return the stream of a response after a number. `watching`: a client that leaves cancels nothing."""
    queue: JobQueue = request.state.queue
    parts = follow(
        asked.job_id,
        BEFORE_FIRST_ID,
        queue,
        owner=request.state.caller.visible_owner,
        renderer=ResponseStream(asked, after=after),
    )
    if not watching and not asked.request.background:
        parts = cancelling_when_left(parts, queue, asked.job_id)
    return StreamedResponse(parts)
