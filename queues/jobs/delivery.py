"""One attempt to deliver a webhook: the outcome is stored together with the next attempt."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import timedelta

from redis import Redis

from client.rq.origin import NO_ORIGIN, JobOrigin
from errors import WebhookNotFound
from observability import logs, metrics, tracing
from settings import Settings
from webhooks.models import Attempt, Delivery, DeliveryStatus, DeliveryTask, Endpoint, utc_time
from webhooks.sender import Outcome, Sender, send, signed_headers
from webhooks.ssrf import AddressPolicy
from webhooks.store import WebhookStore, log_ttl_seconds
from webhooks.throttle import PAUSE_SECONDS, ReceiverThrottle

log = logging.getLogger("webhooks")

# The longest pause that a receiver may ask for with Retry-After.
MAX_RETRY_AFTER_SECONDS = 86_400


def clock() -> float:
    """Return the time in Unix seconds."""
    return time.time()


def attempt_delivery(
    task: DeliveryTask, valkey: Redis, settings: Settings, sender: Sender = send, *, origin: JobOrigin = NO_ORIGIN
) -> str:
    """Attempt a delivery once, and store its outcome together with the RQ job of the next attempt.

    `origin`: of this job, and of the next. The receiver gets the id of the request as `X-Request-ID`.
    Returns the status of the delivery, or `superseded` when another job makes this attempt.
    Raises QueueUnavailable; the relay then enqueues the attempt again.
    """
    store = WebhookStore(valkey, ttl_seconds=log_ttl_seconds(settings))
    try:
        delivery = store.delivery(task.delivery_id)
    except WebhookNotFound:
        return "superseded"
    if delivery.seq != task.seq or delivery.status is not DeliveryStatus.PENDING:
        return "superseded"
    body = store.body(delivery)
    throttle = ReceiverThrottle(valkey, delivery.url, owner=delivery.owner, delivery_id=delivery.delivery_id)
    refusal = _refusal(store, delivery, body)
    now = clock()
    if refusal is not None or body is None:
        updated = _ended(delivery, DeliveryStatus.FAILED, refusal)
    elif not throttle.start_attempt():
        updated = _rescheduled(delivery, now, PAUSE_SECONDS)
    else:
        policy = AddressPolicy(settings.webhook_allow_http, settings.webhook_allow_private)
        secrets = store.secrets_for(delivery, now=now)
        headers = signed_headers(*secrets, message_id=delivery.message_id, timestamp=int(now), body=body)
        outcome = _send(sender, delivery, body, headers, policy, origin)
        throttle.end_attempt(outcome)
        metrics.count(metrics.WEBHOOK_ATTEMPTS, _name_of(outcome))
        if outcome.gone:
            _disable(store, delivery, now)
        updated = _with_attempt(delivery, outcome, now)
        if not outcome.delivered:
            _log_failure(updated)
    written = store.save_delivery(updated, expected=delivery.seq, now=clock(), origin=origin)
    return updated.status.value if written else "superseded"


def _send(
    sender: Sender, delivery: Delivery, body: bytes, headers: dict[str, str], policy: AddressPolicy, origin: JobOrigin
) -> Outcome:
    """Make the attempt, in a span. The span does not name the receiver, whom a user chose."""
    attributes = {"http.request.method": "POST", "rag.delivery.id": delivery.delivery_id}
    with tracing.span("POST", attributes, kind="client") as span:
        outcome = sender(delivery.url, body, headers | _origin_headers(origin), policy=policy)
        span.set({"http.response.status_code": outcome.status, "http.request.resend_count": len(delivery.attempts)})
        if not outcome.delivered:
            span.fail(str(outcome.status) if outcome.status is not None else "unreachable")
        return outcome


def _origin_headers(origin: JobOrigin) -> dict[str, str]:
    headers = {"x-request-id": origin.request_id, "traceparent": tracing.current_span().traceparent}
    return {name: value for name, value in headers.items() if value is not None}


def _name_of(outcome: Outcome) -> str:
    if outcome.delivered or outcome.gone:
        return "delivered" if outcome.delivered else "gone"
    return "refused" if outcome.status is not None else "unreachable"


def _refusal(store: WebhookStore, delivery: Delivery, body: bytes | None) -> str | None:
    """Return the reason why nothing may be sent any more; None when the attempt may proceed."""
    if body is None:
        return "the body of the webhook is no longer kept"
    if not delivery.endpoint_id:
        return None
    endpoint = _endpoint(store, delivery)
    if endpoint is None:
        return "the endpoint was deleted"
    return "the endpoint is disabled" if endpoint.disabled_at is not None else None


def _log_failure(delivery: Delivery) -> None:
    """Log the failure of a delivery's latest attempt. The URL is never logged: its path may hold a secret."""
    attempt = delivery.attempts[-1]
    cause = attempt.error or f"the receiver answered {attempt.status}"
    next_at = delivery.next_attempt_at
    following = "no attempt follows" if next_at is None else f"the next attempt is at {next_at:%Y-%m-%dT%H:%M:%SZ}"
    log.warning(
        "delivery %s: attempt %d failed (%s); %s",
        delivery.delivery_id,
        len(delivery.attempts),
        cause,
        following,
        extra=logs.fields(delivery_id=delivery.delivery_id, next_attempt_at=next_at),
    )


def _with_attempt(delivery: Delivery, outcome: Outcome, now: float) -> Delivery:
    """Return the delivery with the outcome of an attempt that began at `now`, ended or rescheduled."""
    attempt = Attempt(at=utc_time(now), status=outcome.status, error=outcome.error, seconds=outcome.seconds)
    tried = delivery.model_copy(update={"attempts": (*delivery.attempts, attempt)})
    if outcome.delivered:
        return _ended(tried, DeliveryStatus.DELIVERED, None)
    if outcome.gone:
        return _ended(tried, DeliveryStatus.FAILED, "the receiver answered 410 Gone")
    delay = tried.next_delay_seconds()
    if delay is None:
        return _ended(tried, DeliveryStatus.FAILED, "the last attempt failed")
    delay = max(delay, min(outcome.retry_after_seconds or 0, MAX_RETRY_AFTER_SECONDS))
    return _rescheduled(tried, now, delay)


def _rescheduled(delivery: Delivery, now: float, delay_seconds: int) -> Delivery:
    next_at = utc_time(now) + timedelta(seconds=delay_seconds)
    return delivery.model_copy(update={"seq": delivery.seq + 1, "next_attempt_at": next_at})


def _ended(delivery: Delivery, status: DeliveryStatus, reason: str | None) -> Delivery:
    return delivery.model_copy(update={"status": status, "reason": reason, "next_attempt_at": None})


def _disable(store: WebhookStore, delivery: Delivery, now: float) -> None:
    endpoint = _endpoint(store, delivery)
    if endpoint is not None:
        with suppress(WebhookNotFound):  # deleted meanwhile
            store.replace_endpoint(endpoint.model_copy(update={"disabled_at": utc_time(now)}))


def _endpoint(store: WebhookStore, delivery: Delivery) -> Endpoint | None:
    try:
        return store.endpoint(delivery.endpoint_id, owner=delivery.owner)
    except WebhookNotFound:
        return None
