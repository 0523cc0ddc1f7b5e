"""GET /me: who the caller is, and what the caller has."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.dependencies import (
    ANY_SCOPE,
    CallerDep,
    IsOperatorDep,
    JobQueueDep,
    PoolsDep,
    ScopedRoute,
    SettingsDep,
    UploadRepositoryDep,
)
from api.problems import openapi_problems
from schemas import KeyScope

router = APIRouter(route_class=ScopedRoute, tags=["service"], dependencies=ANY_SCOPE)


class Me(BaseModel):
    """The caller. null: no limit."""

    user_id: str
    key_id: str | None = Field(description="The key of the request; null for a token, and without a key.")
    scopes: list[KeyScope]
    is_admin: bool = Field(description="True if the caller sees what all users have.")
    is_operator: bool = Field(
        description="True if what only an admin may call is open to the caller; so it is to this machine without keys."
    )
    stored_bytes: int = Field(description="The size of the caller's uploads.")
    max_stored_bytes: int | None
    waiting_jobs: int = Field(description="Questions and documents of the caller that wait.")
    max_waiting_jobs: int | None


@router.get("/me", responses=openapi_problems(503))
async def me(
    caller: CallerDep,
    settings: SettingsDep,
    queue: JobQueueDep,
    uploads: UploadRepositoryDep,
    pools: PoolsDep,
    *,
    is_operator: IsOperatorDep,
) -> Me:
    """Return who you are, what your key may do, and how much of your limits you use."""
    stored_mb = settings.max_stored_mb
    return Me(
        user_id=caller.user_id,
        key_id=caller.key_id or None,
        scopes=sorted(caller.scopes),
        is_admin=caller.visible_owner is None,
        is_operator=is_operator,
        stored_bytes=await pools.sql.run(uploads.stored_bytes, caller.user_id),
        max_stored_bytes=None if stored_mb is None else stored_mb * 1024 * 1024,
        waiting_jobs=await queue.count_waiting(caller.user_id),
        max_waiting_jobs=settings.max_queued_jobs,
    )
