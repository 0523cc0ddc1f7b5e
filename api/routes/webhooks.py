"""Webhooks under /webhooks: register endpoints, and list and repeat the deliveries to them."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from uuid_utils.compat import uuid7

from api.callbacks import address_policy
from api.dependencies import ANY_SCOPE, PoolsDep, ScopedRoute, SettingsDep, UserIdDep, VisibleOwnerDep, WebhookStoreDep
from api.problems import openapi_problems
from errors import InvalidRequest, WebhookConflict, WebhookUrlRefused
from observability import logs
from schemas import check_text
from webhooks.models import Attempt, Delivery, DeliveryStatus, Endpoint, EventType, utc_time
from webhooks.sender import new_secret
from webhooks.ssrf import MAX_URL_CHARS, AddressPolicy, parse_url, resolve_addresses
from webhooks.store import EVERYONE, delivery_job_id

# Most of these routes are sync, so that FastAPI runs them in threads: the store blocks.
router = APIRouter(route_class=ScopedRoute, tags=["webhooks"], dependencies=ANY_SCOPE)

RESOLVE_SECONDS = 2.0
EXAMPLE = "https://example.com/hooks/rag"

LimitParam = Annotated[int, Query(ge=1, le=100, description="Largest number of deliveries to list, newest first.")]
OffsetParam = Annotated[int, Query(ge=0, le=1_000, description="Number of newest deliveries to leave out.")]


class EndpointRequest(BaseModel):
    """An endpoint to register."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"url": EXAMPLE}]})

    url: str = Field(max_length=MAX_URL_CHARS, description="Where to POST: https, on a public host.")
    description: Annotated[str, StringConstraints(max_length=256), AfterValidator(check_text)] = ""
    events: list[EventType] = Field(
        [], max_length=len(EventType), description="The events to send; empty for those of jobs."
    )


class EndpointView(BaseModel):
    """A registered endpoint. Once it answers 410 Gone, `disabled_at` is set and nothing more is sent to it."""

    id: str
    url: str
    description: str
    events: list[EventType]
    created_at: datetime
    disabled_at: datetime | None = None


class NewEndpoint(EndpointView):
    """A registered endpoint with its secret, which is never shown again."""

    secret: str


class EndpointList(BaseModel):
    endpoints: list[EndpointView]


class Secret(BaseModel):
    """The secret that signs webhooks to a `webhook_url` which is not a registered endpoint."""

    secret: str


class DeliveryView(BaseModel):
    """An event on its way to one receiver, which sees `message_id` as the header `webhook-id`."""

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
async def register(
    body: EndpointRequest,
    webhooks: WebhookStoreDep,
    user_id: UserIdDep,
    settings: SettingsDep,
    pools: PoolsDep,
    response: Response,
) -> NewEndpoint:
    """Register an endpoint that receives a webhook when a job ends. Only this response shows its secret."""
    await pools.resolver.run(check_webhook_url, body.url, address_policy(settings))
    endpoint = Endpoint(
        endpoint_id=str(uuid7()),
        owner=user_id,
        url=body.url,
        secret=new_secret(),
        description=body.description,
        events=tuple(dict.fromkeys(body.events)),
        created_at=utc_time(time.time()),
    )
    await pools.webhooks.run(webhooks.add_endpoint, endpoint)
    logs.audit("webhook_registered", endpoint_id=endpoint.endpoint_id)
    response.headers["Location"] = f"/webhooks/{endpoint.endpoint_id}"
    return NewEndpoint(**_endpoint_view(endpoint).model_dump(), secret=endpoint.secret)


@router.get("/webhooks", responses=openapi_problems(503), response_model_exclude_none=True)
def endpoints(webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> EndpointList:
    """List your endpoints."""
    return EndpointList(endpoints=[_endpoint_view(endpoint) for endpoint in webhooks.endpoints(owner)])


@router.get("/webhooks/secret", responses=openapi_problems(503))
def secret(webhooks: WebhookStoreDep, user_id: UserIdDep) -> Secret:
    """Show the secret that signs webhooks to the `webhook_url` of a job."""
    return Secret(secret=webhooks.default_secret(user_id))


@router.get("/webhooks/deliveries", responses=openapi_problems(422, 503), response_model_exclude_none=True)
def deliveries(
    webhooks: WebhookStoreDep,
    owner: VisibleOwnerDep,
    job_id: Annotated[str | None, Query(max_length=64, description="Only deliveries about this job.")] = None,
    limit: LimitParam = 50,
    offset: OffsetParam = 0,
) -> DeliveryList:
    """List your deliveries: sent, failed and to be sent."""
    log, key = ("all", EVERYONE) if owner is None else ("owner", owner)
    if job_id is not None:
        log, key = "job", job_id
    return _delivery_list(webhooks.deliveries(log, key, owner=owner, offset=offset, limit=limit))


@router.post(
    "/webhooks/deliveries/{delivery_id}/redeliver",
    status_code=202,
    responses=openapi_problems(404, 409, 422, 503),
    response_model_exclude_none=True,
)
def redeliver(delivery_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> DeliveryView:
    """Send a webhook again now, with the same id. If that fails, the whole schedule of retries begins again."""
    delivery = webhooks.delivery(delivery_id, owner=owner)
    if webhooks.body(delivery) is None:
        raise WebhookConflict("the body of the webhook is no longer kept: it cannot be sent again")
    if delivery.endpoint_id and webhooks.endpoint(delivery.endpoint_id, owner=owner).disabled_at is not None:
        raise WebhookConflict("the endpoint is disabled: POST /webhooks/{id}/enable first")
    now = time.time()
    again = delivery.model_copy(
        update={
            "status": DeliveryStatus.PENDING,
            "reason": None,
            "seq": delivery.seq + 1,
            "first": len(delivery.attempts),
            "next_attempt_at": utc_time(now),
        }
    )
    earlier_job = delivery_job_id(delivery.delivery_id, delivery.seq)
    if not webhooks.save_delivery(again, expected=delivery.seq, now=now, remove_job=earlier_job):
        raise WebhookConflict("the webhook is being sent at this moment: look at its status before you send it again")
    return _delivery_view(again)


@router.get("/webhooks/{endpoint_id}", responses=openapi_problems(404, 422, 503), response_model_exclude_none=True)
def endpoint(endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> EndpointView:
    """Show an endpoint."""
    return _endpoint_view(webhooks.endpoint(endpoint_id, owner=owner))


@router.delete("/webhooks/{endpoint_id}", status_code=204, responses=openapi_problems(404, 422, 503))
def delete(endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> None:
    """Delete an endpoint. Nothing is sent to it from now on."""
    webhooks.delete_endpoint(webhooks.endpoint(endpoint_id, owner=owner))
    logs.audit("webhook_deleted", endpoint_id=endpoint_id)


@router.post(
    "/webhooks/{endpoint_id}/enable", responses=openapi_problems(404, 422, 503), response_model_exclude_none=True
)
def enable(endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep) -> EndpointView:
    """Enable an endpoint that was disabled because it answered 410 Gone."""
    enabled = webhooks.endpoint(endpoint_id, owner=owner).model_copy(update={"disabled_at": None})
    webhooks.replace_endpoint(enabled)
    return _endpoint_view(enabled)


@router.get(
    "/webhooks/{endpoint_id}/deliveries", responses=openapi_problems(404, 422, 503), response_model_exclude_none=True
)
def endpoint_deliveries(
    endpoint_id: str, webhooks: WebhookStoreDep, owner: VisibleOwnerDep, limit: LimitParam = 50, offset: OffsetParam = 0
) -> DeliveryList:
    """List the deliveries to an endpoint: sent, failed and to be sent."""
    webhooks.endpoint(endpoint_id, owner=owner)
    return _delivery_list(webhooks.deliveries("endpoint", endpoint_id, owner=owner, offset=offset, limit=limit))


def check_webhook_url(url: str, policy: AddressPolicy) -> None:
    """Refuse a URL to which no webhook may be sent. A host that does not resolve yet is accepted."""
    try:
        resolve_addresses(parse_url(url, policy), policy, timeout_seconds=RESOLVE_SECONDS)
    except WebhookUrlRefused as error:
        raise InvalidRequest([("url", error.detail)]) from None
    except OSError:
        pass


def _endpoint_view(endpoint: Endpoint) -> EndpointView:
    return EndpointView(
        id=endpoint.endpoint_id,
        url=endpoint.url,
        description=endpoint.description,
        events=list(endpoint.events),
        created_at=endpoint.created_at,
        disabled_at=endpoint.disabled_at,
    )


def _delivery_view(delivery: Delivery) -> DeliveryView:
    fields = delivery.model_dump(exclude={"delivery_id", "owner", "endpoint_id", "seq", "first"})
    return DeliveryView(id=delivery.delivery_id, endpoint_id=delivery.endpoint_id or None, **fields)


def _delivery_list(deliveries: list[Delivery]) -> DeliveryList:
    return DeliveryList(deliveries=[_delivery_view(delivery) for delivery in deliveries])
