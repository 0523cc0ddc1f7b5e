"""API keys for administrators: GET, POST /keys and DELETE /keys/{key_id}. `main.py keys` does the same."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.dependencies import OPERATOR, ApiKeyRepositoryDep, PoolsDep, ScopedRoute
from api.problems import openapi_problems
from auth.api_keys import PROPAGATION_SECONDS, ApiKey
from errors import AdminKeyMissing, KeyNotFound
from observability import logs
from schemas import DEFAULT_SCOPES, KeyScope, UserId

router = APIRouter(route_class=ScopedRoute, tags=["keys"], dependencies=OPERATOR)

MAX_DAYS = 36_500


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters")
    return text


KeyName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(_printable)
]


class KeyRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: KeyName = Field(description="What the key is for.")
    user_id: Annotated[UserId, AfterValidator(_printable)] = Field(
        "local", description="User whose documents the key opens."
    )
    scopes: frozenset[KeyScope] = Field(
        DEFAULT_SCOPES, min_length=1, description="What the key allows; `admin` allows everything, for every user."
    )
    days: float | None = Field(None, gt=0, le=MAX_DAYS, description="Days until the key expires. Null: never.")


class KeyView(BaseModel):
    """The record of a key, without its secret text, which is not stored."""

    key_id: str
    name: str
    user_id: str
    scopes: list[KeyScope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    valid: bool = Field(description="False once the key is expired or revoked.")


class NewKey(KeyView):
    """A new key. `key` is shown only now."""

    key: str = Field(description="Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")


class KeyList(BaseModel):
    """All keys, oldest first; expired and revoked keys too."""

    keys: list[KeyView]


@router.get("/keys", responses=openapi_problems(503))
async def list_keys(repository: ApiKeyRepositoryDep, pools: PoolsDep) -> KeyList:
    """List the keys of all users. Where calls need a key, this one needs the scope `admin`."""
    return KeyList(keys=[KeyView(**_fields(key)) for key in await pools.sql.run(repository.all)])


@router.post("/keys", status_code=201, responses=openapi_problems(409, 422, 503))
async def create_key(asked: KeyRequest, repository: ApiKeyRepositoryDep, pools: PoolsDep) -> NewKey:
    """Create a key, and answer once every API process knows it. From the first key on, every call needs one."""
    if KeyScope.ADMIN not in asked.scopes and not await pools.sql.run(repository.all):
        raise AdminKeyMissing("from the first key on, every call needs one: make a key with the scope admin first")
    expires_at = datetime.now(UTC) + timedelta(days=asked.days) if asked.days else None
    key, text = await pools.sql.run(
        repository.create, asked.name, user_id=asked.user_id, scopes=asked.scopes, expires_at=expires_at
    )
    logs.audit("key_created", created_key_id=key.key_id, of_user=key.user_id, scopes=sorted(key.scopes))
    await asyncio.sleep(PROPAGATION_SECONDS)
    return NewKey(**_fields(key), key=text)


@router.delete("/keys/{key_id}", responses=openapi_problems(404, 422, 503))
async def revoke_key(key_id: str, repository: ApiKeyRepositoryDep, pools: PoolsDep) -> KeyView:
    """Revoke a key for good, with its sessions, and answer once no API process takes it any more."""
    if not await pools.sql.run(repository.revoke, key_id):
        raise KeyNotFound("there is no key with this id: GET /keys lists the keys")
    logs.audit("key_revoked", revoked_key_id=key_id)
    await asyncio.sleep(PROPAGATION_SECONDS)
    return next(KeyView(**_fields(key)) for key in await pools.sql.run(repository.all) if key.key_id == key_id)


def _fields(key: ApiKey) -> dict[str, object]:
    fields = key.model_dump(exclude={"sha256", "scopes"})
    return fields | {"scopes": sorted(key.scopes), "valid": key.is_valid(datetime.now(UTC))}
