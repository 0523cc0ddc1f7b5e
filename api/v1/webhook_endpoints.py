"""Webhook endpoints: /v1/webhook_endpoints makes, lists, changes, tests and deletes receivers of OpenAI's events."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.callbacks import address_policy
from api.dependencies import ANY_SCOPE
from api.routes.webhooks import check_webhook_url
from api.v1 import ids
from api.v1.bodies import read_body
from api.v1.errors import ApiError, OpenAIRoute, unsupported
from api.v1.lists import Limit, page_of
from api.v1.repeats import reserve_id
from api.v1.sending import JsonResponse
from client.rq.ids import new_id
from errors import WebhookNotFound
from observability import logs
from schemas import check_text
from webhooks.models import Endpoint, EventType, Message, utc_time
from webhooks.sender import Outcome, new_secret, send, signed_headers
from webhooks.ssrf import MAX_URL_CHARS, AddressPolicy

EVENT_TYPES: Final = tuple(event.value for event in EventType if event.of_response)
_OF_JOBS: Final = tuple(event for event in EventType if not event.of_response)
# For how long a secret that was rotated signs on, if asked for.
OLD_SECRET_HOURS: Final = 24
TEST_SECONDS: Final = 10
_Name = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(check_text)]
_Url = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS)]
_Types = Annotated[list[str], Field(min_length=1, max_length=50)]

# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(prefix="/v1", route_class=OpenAIRoute, dependencies=ANY_SCOPE, include_in_schema=False)


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _CreateEndpoint(_Body):
    name: _Name
    url: _Url
    event_types: _Types


class _ChangeEndpoint(_Body):
    name: _Name | None = None
    url: _Url | None = None
    event_types: _Types | None = None


class _RotateSecret(_Body):
    keep_old_secret_active_for_24_hours: bool = False


class _Test(_Body):
    event_type: str


@router.post("/webhook_endpoints")
async def create(request: Request) -> Response:
    """Register an endpoint. Only this response shows its secret."""
    body, given = await read_body(request, _CreateEndpoint)
    state = request.state
    events = _events(body.event_types)
    await _check_url(request, body.url)
    endpoint = Endpoint(
        endpoint_id=await reserve_id(request, {"kind": "webhook endpoint", **given}),
        owner=state.caller.user_id,
        url=body.url,
        secret=new_secret(),
        description=body.name,
        events=events,
        created_at=utc_time(time.time()),
    )
    await state.pools.webhooks.run(state.webhooks.add_endpoint, endpoint)
    logs.audit("webhook_registered", endpoint_id=endpoint.endpoint_id)
    return JsonResponse(_shown(endpoint) | {"signing_secret": endpoint.secret})


@router.get("/webhook_endpoints")
async def listed(request: Request, after: str | None = None, limit: Limit = 20) -> Response:
    """List endpoints, the newest first."""
    state = request.state
    endpoints: list[Endpoint] = await state.pools.webhooks.run(state.webhooks.endpoints, state.caller.visible_owner)
    shown = [_shown(endpoint) for endpoint in reversed(endpoints)]
    if after is not None:
        last = _shown(await _load(request, after, param="after"))
        shown = shown[shown.index(last) + 1 :] if last in shown else []
    return JsonResponse(page_of(shown[:limit], more=len(shown) > limit))


@router.get("/webhook_endpoints/{webhook_endpoint_id}")
async def retrieve(webhook_endpoint_id: str, request: Request) -> Response:
    """Return an endpoint."""
    return JsonResponse(_shown(await _load(request, webhook_endpoint_id)))


@router.post("/webhook_endpoints/{webhook_endpoint_id}")
async def change(webhook_endpoint_id: str, request: Request) -> Response:
    """Change the name, the URL or the events of an endpoint."""
    endpoint = await _load(request, webhook_endpoint_id)
    body, _ = await read_body(request, _ChangeEndpoint)
    values: dict[str, Any] = {}
    if body.name is not None:
        values["description"] = body.name
    if body.url is not None:
        await _check_url(request, body.url)
        values["url"] = body.url
    if body.event_types is not None:
        values["events"] = _events(body.event_types)
    changed = endpoint.model_copy(update=values)
    await request.state.pools.webhooks.run(request.state.webhooks.replace_endpoint, changed)
    return JsonResponse(_shown(changed))


@router.post("/webhook_endpoints/{webhook_endpoint_id}/rotate_secret")
async def rotate_secret(webhook_endpoint_id: str, request: Request) -> Response:
    """Give an endpoint another secret, which only this response shows."""
    endpoint = await _load(request, webhook_endpoint_id)
    keep = False
    if await request.body():
        keep = (await read_body(request, _RotateSecret))[0].keep_old_secret_active_for_24_hours
    until = datetime.now(UTC) + timedelta(hours=OLD_SECRET_HOURS)
    old = {"old_secret": endpoint.secret if keep else None, "old_secret_until": until if keep else None}
    rotated = endpoint.model_copy(update={"secret": new_secret(), **old})
    await request.state.pools.webhooks.run(request.state.webhooks.replace_endpoint, rotated)
    logs.audit("webhook_secret_rotated", endpoint_id=endpoint.endpoint_id)
    return JsonResponse(_shown(rotated) | {"signing_secret": rotated.secret})


@router.post("/webhook_endpoints/{webhook_endpoint_id}/test")
async def send_test(webhook_endpoint_id: str, request: Request) -> Response:
    """Send an event about a response that does not exist, once, and return how the endpoint answers."""
    endpoint = await _load(request, webhook_endpoint_id)
    body, _ = await read_body(request, _Test)
    (event,) = _events([body.event_type], param="event_type")
    state = request.state
    outcome = await state.pools.resolver.run(_send_test, endpoint, event, address_policy(state.settings))
    if outcome.status is None:
        raise ApiError(f"the endpoint did not answer: {outcome.error}", code="webhook_test_failed", param="url")
    return JsonResponse(
        {
            "object": "webhook_endpoint.test",
            "event_type": event.value,
            "status_code": outcome.status,
            "success": True,
            "webhook_endpoint_id": webhook_endpoint_id,
        }
    )


@router.delete("/webhook_endpoints/{webhook_endpoint_id}")
async def delete(webhook_endpoint_id: str, request: Request) -> Response:
    """Delete an endpoint. Nothing is sent to it from now on."""
    endpoint = await _load(request, webhook_endpoint_id)
    await request.state.pools.webhooks.run(request.state.webhooks.delete_endpoint, endpoint)
    logs.audit("webhook_deleted", endpoint_id=endpoint.endpoint_id)
    return JsonResponse({"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})


def _send_test(endpoint: Endpoint, event: EventType, policy: AddressPolicy) -> Outcome:
    now = time.time()
    message = Message.about_response(new_id(), event, created_at=utc_time(now))
    body = message.body.encode()
    headers = signed_headers(*endpoint.secrets(now), message_id=message.message_id, timestamp=int(now), body=body)
    return send(endpoint.url, body, headers, policy=policy, timeout_seconds=TEST_SECONDS)


def _events(names: list[str], *, param: str = "event_types") -> tuple[EventType, ...]:
    """Return events by their names. Raises ApiError."""
    for name in names:
        if name not in EVENT_TYPES:
            raise unsupported(param, f"the events that are sent are {', '.join(EVENT_TYPES)}")
    return tuple(EventType(name) for name in dict.fromkeys(names))


async def _check_url(request: Request, url: str) -> None:
    """Raise InvalidRequest for a URL to which nothing may be sent."""
    await request.state.pools.resolver.run(check_webhook_url, url, address_policy(request.state.settings))


async def _load(request: Request, endpoint_id: str, *, param: str = "webhook_endpoint_id") -> Endpoint:
    state = request.state
    ours = ids.to_ours(ids.WEBHOOK_ENDPOINT, endpoint_id, param=param)
    try:
        endpoint: Endpoint = await state.pools.webhooks.run(
            state.webhooks.endpoint, ours, owner=state.caller.visible_owner
        )
    except WebhookNotFound:
        raise ids.not_found(ids.WEBHOOK_ENDPOINT, param=param) from None
    return endpoint


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": ids.to_theirs(ids.WEBHOOK_ENDPOINT, endpoint.endpoint_id),
        "object": "webhook_endpoint",
        "created_at": int(endpoint.created_at.timestamp()),
        "name": endpoint.description,
        "url": endpoint.url,
        "event_types": [event.value for event in endpoint.events or _OF_JOBS],
    }
