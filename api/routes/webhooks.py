"""Endpoints that are told when jobs end, and the log of what was sent to them: /webhooks."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from uuid_utils.compat import uuid7

from api.callbacks import policy_of
from api.dependencies import ScopedRoute, SettingsDep, UserIdDep, VisibleOwnerDep, WebhookStoreDep, require_scope
from api.problems import openapi_problems
from errors import InvalidRequest, WebhookConflict, WebhookUrlRefused
from observability import logs
from schemas import KeyScope, check_text
from webhooks.models import Attempt, Delivery, DeliveryStatus, Endpoint, EventType, moment
from webhooks.sender import new_secret
from webhooks.ssrf import MAX_URL_CHARS, AddressPolicy, addresses_of, parse_url
from webhooks.store import EVERYONE, rq_job_id

# Routes are sync: they run in threads, since resolving names and the store they use block.
router = APIRouter(
    route_class=ScopedRoute, tags=["webhooks"], dependencies=[require_scope(KeyScope.QUERY, KeyScope.UPLOAD)]
)

RESOLVE_SECONDS = 2.0
EXAMPLE = "https://example.com/hooks/rag"

Limit = Annotated[int, Query(ge=1, le=100, description="How many to list, newest first.")]
Offset = Annotated[int, Query(ge=0, le=1_000, description="How many of the newest to leave out.")]


class EndpointRequest(BaseModel):
    """An endpoint to register."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"url": EXAMPLE}]})

    url: str = Field(max_length=MAX_URL_CHARS, description="Where to POST: https, on a public host.")
    description: Annotated[str, StringConstraints(max_length=256), AfterValidator(check_text)] = ""
    events: list[EventType] = Field([], max_length=len(EventType), description="Which events to send; empty for all.")


class EndpointView(BaseModel):
    """A registered endpoint. `disabled_at` is set once it answered 410 Gone; nothing is sent to it then."""

    id: str
    url: str
    description: str
    events: list[EventType]
    created_at: datetime
    disabled_at: datetime | None = None


class NewEndpoint(EndpointView):
    """A registered endpoint with its secret, which is not shown again."""

    secret: str


class EndpointList(BaseModel):
    endpoints: list[EndpointView]


class Secret(BaseModel):
    """What signs webhooks to a `webhook_url` that is no registered endpoint."""

    secret: str


class DeliveryView(BaseModel):
    """An event on its way to one receiver. `message_id` is what the receiver sees as `webhook-id`."""

    id: str
    message_id: str
    type: EventType
    job_id: str
    url: str
    endpoint_id: str | None = None
    status: DeliveryStatus
    reason: str | None = Field(None, description="Why no further attempt is made; when failed.")
    created_at: datetime
    next_attempt_at: datetime | None = None
    attempts: list[Attempt]


class DeliveryList(BaseModel):
    deliveries: list[DeliveryView]


@router.post(
    "/webhooks", status_code=201, responses=openapi_problems(409, 413, 422, 503), response_model_exclude_none=True
)
def register(
    body: EndpointRequest, webhooks: WebhookStoreDep, user: UserIdDep, settings: SettingsDep, response: Response
) -> NewEndpoint:
    """Register an endpoint that is told when jobs end. The answer holds its secret, once."""
    _check(body.url, policy_of(settings))
    endpoint = Endpoint(
        endpoint_id=str(uuid7()),
        owner=user,
        url=body.url,
        secret=new_secret(),
        description=body.description,
        events=tuple(dict.fromkeys(body.events)),
        created_at=moment(time.time()),
    )
    webhooks.add_endpoint(endpoint)
    logs.audit("webhook_registered", endpoint_id=endpoint.endpoint_id)
    response.headers["Location"] = f"/webhooks/{endpoint.endpoint_id}"
    return NewEndpoint(**_view(endpoint).model_dump(), secret=endpoint.secret)


@router.get("/webhooks", responses=openapi_problems(503), response_model_exclude_none=True)
def endpoints(webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> EndpointList:
    """List your endpoints."""
    return EndpointList(endpoints=[_view(endpoint) for endpoint in webhooks.endpoints(owner)])


@router.get("/webhooks/secret", responses=openapi_problems(503))
def secret(webhooks: WebhookStoreDep, user: UserIdDep) -> Secret:
    """Show the secret that signs webhooks to a `webhook_url` given with a job."""
    return Secret(secret=webhooks.default_secret(user))


@router.get("/webhooks/deliveries", responses=openapi_problems(422, 503), response_model_exclude_none=True)
def deliveries(
    webhooks: WebhookStoreDep,
    owner: VisibleOwnerDep,
    job_id: Annotated[str | None, Query(max_length=64, description="Only those about this job.")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> DeliveryList:
    """List what was sent to you or will be."""
    what, name = ("all", EVERYONE) if owner is None else ("owner", owner)
    if job_id is not None:
        what, name = "job", job_id
    return _list(webhooks.deliveries(what, name, owner=owner, offset=offset, limit=limit))


@router.post(
    "/webhooks/deliveries/{delivery_id}/redeliver",
    status_code=202,
    responses=openapi_problems(404, 409, 422, 503),
    response_model_exclude_none=True,
)
def redeliver(delivery_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> DeliveryView:
    """Send a webhook again now, with the same id, and on the whole schedule again if that fails."""
    delivery = webhooks.delivery(delivery_id, owner=owner)
    if webhooks.body(delivery) is None:
        raise WebhookConflict("what was sent is no longer kept")
    if delivery.endpoint_id and webhooks.endpoint(delivery.endpoint_id, owner=owner).disabled_at is not None:
        raise WebhookConflict("the endpoint is disabled: POST /webhooks/{id}/enable first")
    now = time.time()
    again = delivery.model_copy(
        update={
            "status": DeliveryStatus.PENDING,
            "reason": None,
            "seq": delivery.seq + 1,
            "first": len(delivery.attempts),
            "next_attempt_at": moment(now),
        }
    )
    dropped = rq_job_id(delivery.delivery_id, delivery.seq)
    if not webhooks.save_delivery(again, expected=delivery.seq, now=now, drop=dropped):
        raise WebhookConflict("the webhook is being sent at this moment")
    return _delivery(again)


@router.get("/webhooks/{endpoint_id}", responses=openapi_problems(404, 422, 503), response_model_exclude_none=True)
def endpoint(endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> EndpointView:
    """Show an endpoint."""
    return _view(webhooks.endpoint(endpoint_id, owner=owner))


@router.delete("/webhooks/{endpoint_id}", status_code=204, responses=openapi_problems(404, 422, 503))
def delete(endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> None:
    """Delete an endpoint. Nothing is sent to it any more."""
    webhooks.delete_endpoint(webhooks.endpoint(endpoint_id, owner=owner))
    logs.audit("webhook_deleted", endpoint_id=endpoint_id)


@router.post(
    "/webhooks/{endpoint_id}/enable", responses=openapi_problems(404, 422, 503), response_model_exclude_none=True
)
def enable(endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> EndpointView:
    """Send to an endpoint again that answered 410 Gone once."""
    found = webhooks.endpoint(endpoint_id, owner=owner).model_copy(update={"disabled_at": None})
    webhooks.replace_endpoint(found)
    return _view(found)


@router.get(
    "/webhooks/{endpoint_id}/deliveries", responses=openapi_problems(404, 422, 503), response_model_exclude_none=True
)
def endpoint_deliveries(
    endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep, limit: Limit = 50, offset: Offset = 0
) -> DeliveryList:
    """List what was sent to an endpoint or will be."""
    webhooks.endpoint(endpoint_id, owner=owner)
    return _list(webhooks.deliveries("endpoint", endpoint_id, owner=owner, offset=offset, limit=limit))


def _check(url: str, policy: AddressPolicy) -> None:
    """Refuse a URL that leads, or now resolves, to where no webhook may go. A name may not resolve yet."""
    try:
        addresses_of(parse_url(url, policy), policy, timeout_seconds=RESOLVE_SECONDS)
    except WebhookUrlRefused as error:
        raise InvalidRequest([("url", error.detail)]) from None
    except OSError:
        pass


def _view(endpoint: Endpoint) -> EndpointView:
    return EndpointView(
        id=endpoint.endpoint_id,
        url=endpoint.url,
        description=endpoint.description,
        events=list(endpoint.events),
        created_at=endpoint.created_at,
        disabled_at=endpoint.disabled_at,
    )


def _delivery(delivery: Delivery) -> DeliveryView:
    shown = delivery.model_dump(exclude={"delivery_id", "owner", "endpoint_id", "seq", "first"})
    return DeliveryView(id=delivery.delivery_id, endpoint_id=delivery.endpoint_id or None, **shown)


def _list(found: list[Delivery]) -> DeliveryList:
    return DeliveryList(deliveries=[_delivery(delivery) for delivery in found])
