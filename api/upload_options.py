"""What a request says of the files that it uploads, in its form or in its query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Form, Query

from api.callbacks import WebhookUrl, make_callback
from api.collections import CollectionName
from api.dependencies import SettingsDep
from client.rq.outbox import Callback
from documents.service import OnDuplicate

OnDuplicateParam = Annotated[
    OnDuplicate,
    Query(
        description="What to do with a file uploaded before: `skip` it, `replace` the name of that upload, `keep` both."
    ),
]


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What to do with the files of a request."""

    on_duplicate: OnDuplicate
    callback: Callback
    collection: str | None


async def read_options(
    settings: SettingsDep,
    on_duplicate: OnDuplicateParam = OnDuplicate.SKIP,
    form_on_duplicate: Annotated[OnDuplicate | None, Form(alias="on_duplicate")] = None,
    webhook_url: Annotated[WebhookUrl, Query()] = None,
    form_webhook_url: Annotated[WebhookUrl, Form(alias="webhook_url")] = None,
    collection: Annotated[
        CollectionName | None, Query(description="Add the documents to this collection, which is made if need be.")
    ] = None,
    form_collection: Annotated[CollectionName | None, Form(alias="collection")] = None,
) -> UploadOptions:
    """Return the options of a request; those in the form win over those in the query."""
    callback = make_callback(settings, form_webhook_url or webhook_url, {})
    return UploadOptions(form_on_duplicate or on_duplicate, callback, form_collection or collection)
