"""What routes ask for, by name."""

from __future__ import annotations

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from client.rq_client import JobQueue
from client.webhook_events import WebhookEvents
from settings import Settings


class State(TypedDict):
    """What lives as long as the app."""

    settings: Settings
    queue: JobQueue
    webhooks: WebhookEvents


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _queue(request: Request) -> JobQueue:
    return cast("JobQueue", request.state.queue)


def _webhooks(request: Request) -> WebhookEvents:
    return cast("WebhookEvents", request.state.webhooks)


def _user() -> str:
    """Return whose request it is. Everybody is one user."""
    return "local"


CurrentSettings = Annotated[Settings, Depends(_settings)]
Queue = Annotated[JobQueue, Depends(_queue)]
Webhooks = Annotated[WebhookEvents, Depends(_webhooks)]
User = Annotated[str, Depends(_user)]
