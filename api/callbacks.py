"""Being called back when a job ends: what requests say about it, for every route that makes a job."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from client.rq.outbox import Callback
from errors import InvalidRequest, WebhookUrlRefused
from schemas import check_text
from settings import Settings
from webhooks.ssrf import MAX_URL_CHARS, AddressPolicy, parse_url

MAX_METADATA = 20

WebhookUrl = Annotated[
    str | None,
    Field(
        max_length=MAX_URL_CHARS,
        description="Where to POST the result when the job ends; signed with the secret of GET /webhooks/secret.",
    ),
]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(check_text)]
_Value = Annotated[str, StringConstraints(max_length=512), AfterValidator(check_text)]
Metadata = Annotated[
    dict[_Key, _Value], Field(max_length=MAX_METADATA, description="Texts of your own that webhooks carry back to you.")
]


def policy_of(settings: Settings) -> AddressPolicy:
    """Return what the operator allows."""
    return AddressPolicy(allow_http=settings.webhook_allow_http, allow_private=settings.webhook_allow_private)


def callback_of(settings: Settings, url: str | None, metadata: dict[str, str]) -> Callback:
    """Return whom to tell when the job of a request ends.

    The name in the URL is resolved and checked when the webhook is sent, not here. Raises InvalidRequest.
    """
    if url is not None:
        try:
            parse_url(url, policy_of(settings))
        except WebhookUrlRefused as error:
            raise InvalidRequest([("webhook_url", error.detail)]) from None
    return Callback(url=url or "", metadata=metadata)
