"""The webhook that a request asks for when its job ends: fields shared by all routes that create a job."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticKnownError

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


def few_pairs(most: int) -> BeforeValidator:
    """Refuse more pairs than `most` before they are validated: the errors of 10,000 pairs take 0.1 s."""

    def check(value: object) -> object:
        if isinstance(value, dict) and len(value) > most:
            told = {"field_type": "Dictionary", "max_length": most, "actual_length": len(value)}
            raise PydanticKnownError("too_long", told)
        return value

    return BeforeValidator(check)


MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(check_text)]
MetadataValue = Annotated[str, StringConstraints(max_length=512), AfterValidator(check_text)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(max_length=MAX_METADATA, description="Your texts; each webhook sends them back to you."),
    few_pairs(MAX_METADATA),
]


def address_policy(settings: Settings) -> AddressPolicy:
    """Return the operator's rules for the addresses that webhooks may reach."""
    return AddressPolicy(allow_http=settings.webhook_allow_http, allow_private=settings.webhook_allow_private)


def make_callback(settings: Settings, url: str | None, metadata: dict[str, str]) -> Callback:
    """Return the callback of a request's job. Raises InvalidRequest.

    The URL is only parsed here. Its host name is resolved and checked when the webhook is sent.
    """
    if url is not None:
        try:
            parse_url(url, address_policy(settings))
        except WebhookUrlRefused as error:
            raise InvalidRequest([("webhook_url", error.detail)]) from None
    return Callback(url=url or "", metadata=metadata)
