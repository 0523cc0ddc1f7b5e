"""What routes ask for, by name."""

from __future__ import annotations

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from client.rq_client import JobQueue
from settings import Settings


class State(TypedDict):
    """What lives as long as the app."""

    settings: Settings
    queue: JobQueue


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _queue(request: Request) -> JobQueue:
    return cast("JobQueue", request.state.queue)


CurrentSettings = Annotated[Settings, Depends(_settings)]
Queue = Annotated[JobQueue, Depends(_queue)]
