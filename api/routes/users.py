"""GET /users: who uses the service, how much, and within which limits."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.dependencies import (
    OPERATOR,
    JobQueueDep,
    PoolsDep,
    QuotasDep,
    ScopedRoute,
    SettingsDep,
    UserRepositoryDep,
)
from api.problems import openapi_problems
from auth.quotas import Quotas
from client.rq_client import JobQueue
from client.sql.users import UserUse
from settings import Settings

router = APIRouter(route_class=ScopedRoute, tags=["keys"], dependencies=OPERATOR)

MAX_LISTED = 200


class UserLimits(BaseModel):
    """What each user may use. null: no limit."""

    max_stored_bytes: int | None = Field(description="MAX_STORED_MB, in bytes.")
    max_waiting_jobs: int | None = Field(description="MAX_QUEUED_JOBS.")
    uploads_per_day: int | None
    tokens_per_day: int | None
    requests_per_minute: int | None = Field(description="Of each key.")


class UserView(BaseModel):
    """A user, and what the user has and uses."""

    user_id: str
    keys: int = Field(description="Keys that are valid.")
    uploads: int
    stored_bytes: int
    conversations: int
    waiting_jobs: int = Field(description="Questions and documents that wait.")
    uploads_today: int | None = Field(
        description="Null while UPLOADS_PER_DAY is not set, for they are not counted then."
    )
    tokens_today: int | None = Field(description="Null while TOKENS_PER_DAY is not set.")


class UserPage(BaseModel):
    """Some of the users, in the order of their ids. `next` is the `after` of the next page; null on the last."""

    users: list[UserView]
    limits: UserLimits
    next: str | None


@router.get("/users", responses=openapi_problems(422, 503))
async def users(
    repository: UserRepositoryDep,
    queue: JobQueueDep,
    quotas: QuotasDep,
    pools: PoolsDep,
    settings: SettingsDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Largest number of users to return.")] = 50,
    after: Annotated[str | None, Query(max_length=255, description="The `next` of the page before.")] = None,
) -> UserPage:
    """List the users who have keys, documents or conversations. Where calls need a key, it is one of an admin."""
    found = await pools.sql.run(repository.page, limit=limit + 1, after=after)
    return UserPage(
        users=await asyncio.gather(*(_view(user, queue, quotas) for user in found[:limit])),
        limits=_limits(settings),
        next=found[limit - 1].user_id if len(found) > limit else None,
    )


async def _view(user: UserUse, queue: JobQueue, quotas: Quotas) -> UserView:
    uploads_today, tokens_today = await quotas.used_today(user.user_id)
    return UserView(
        user_id=user.user_id,
        keys=user.keys,
        uploads=user.uploads,
        stored_bytes=user.stored_bytes,
        conversations=user.conversations,
        waiting_jobs=await queue.count_waiting(user.user_id),
        uploads_today=uploads_today,
        tokens_today=tokens_today,
    )


def _limits(settings: Settings) -> UserLimits:
    stored_mb = settings.max_stored_mb
    return UserLimits(
        max_stored_bytes=None if stored_mb is None else stored_mb * 1024 * 1024,
        max_waiting_jobs=settings.max_queued_jobs,
        uploads_per_day=settings.uploads_per_day,
        tokens_per_day=settings.tokens_per_day,
        requests_per_minute=settings.requests_per_minute,
    )
