"""What routes ask for, by name."""

from __future__ import annotations

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from client.file_store import FileStore
from client.library import Library
from client.rq_client import JobQueue
from client.uploads import UploadList
from client.webhook_store import WebhookStore
from settings import Settings


class State(TypedDict):
    """What lives as long as the app."""

    settings: Settings
    queue: JobQueue
    uploads: UploadList
    files: FileStore
    library: Library
    webhooks: WebhookStore


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _queue(request: Request) -> JobQueue:
    return cast("JobQueue", request.state.queue)


def _uploads(request: Request) -> UploadList:
    return cast("UploadList", request.state.uploads)


def _files(request: Request) -> FileStore:
    return cast("FileStore", request.state.files)


def _library(request: Request) -> Library:
    return cast("Library", request.state.library)


def _webhooks(request: Request) -> WebhookStore:
    return cast("WebhookStore", request.state.webhooks)


def _user() -> str:
    """Return whose uploads a request is about. Everybody is one user."""
    return "local"


CurrentSettings = Annotated[Settings, Depends(_settings)]
Queue = Annotated[JobQueue, Depends(_queue)]
Uploads = Annotated[UploadList, Depends(_uploads)]
Files = Annotated[FileStore, Depends(_files)]
Shelf = Annotated[Library, Depends(_library)]
Webhooks = Annotated[WebhookStore, Depends(_webhooks)]
User = Annotated[str, Depends(_user)]
