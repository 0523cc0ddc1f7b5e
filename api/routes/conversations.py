"""Conversations: GET /conversations lists them, the other routes show what was said and delete one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.dependencies import (
    ConversationRepositoryDep,
    PoolsDep,
    ScopedRoute,
    VisibleOwnerDep,
    require_scope,
)
from api.pools import Pools
from api.problems import openapi_problems
from client.sql.conversations import ConversationRepository
from errors import ConversationNotFound, InvalidRequest
from observability import logs
from schemas import KeyScope, Source
from schemas.conversations import Conversation, ConversationItem

router = APIRouter(route_class=ScopedRoute, tags=["conversations"], dependencies=[require_scope(KeyScope.QUERY)])

MAX_LISTED = 200
MAX_TITLE_CHARS = 200


class ConversationView(BaseModel):
    """A conversation. `title` is its first question, cut."""

    conversation_id: str
    title: str | None = None
    created_at: datetime
    updated_at: datetime = Field(description="When something was last added.")


class ConversationPage(BaseModel):
    """Your conversations, the one used last first. `next` is the `cursor` of the next page; null on the last."""

    conversations: list[ConversationView]
    next: str | None = None


class ItemView(BaseModel):
    """A question or an answer."""

    id: str
    role: Literal["user", "assistant"]
    text: str
    sources: list[Source] | None = Field(None, description="The passages that support the answer; for answers.")
    job_id: str | None = Field(None, description="The job that answered; left out for what a client added.")
    created_at: datetime


class ItemPage(BaseModel):
    """What was said. `next` is the `after` of the next page; null on the last."""

    items: list[ItemView]
    next: str | None = None


@router.get("/conversations", responses=openapi_problems(422, 503))
async def conversations(
    repository: ConversationRepositoryDep,
    pools: PoolsDep,
    owner: VisibleOwnerDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
    cursor: Annotated[str | None, Query(max_length=40, description="The `next` of the page before.")] = None,
) -> ConversationPage:
    """List your conversations, the one used last first."""
    before = None if cursor is None else _parse_cursor(cursor)
    found = await pools.sql.run(repository.listed, owner, limit=limit + 1, before=before)
    views = [
        ConversationView(
            title=title and title[:MAX_TITLE_CHARS],
            **one.model_dump(include={"conversation_id", "created_at", "updated_at"}),
        )
        for one, title in found
    ]
    following = _cursor(views[limit - 1].updated_at) if len(views) > limit else None
    return ConversationPage(conversations=views[:limit], next=following)


@router.get(
    "/conversations/{conversation_id}/items",
    responses=openapi_problems(404, 422, 503),
    response_model_exclude_none=True,
)
async def items(
    conversation_id: str,
    repository: ConversationRepositoryDep,
    pools: PoolsDep,
    owner: VisibleOwnerDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
    after: Annotated[str | None, Query(max_length=100, description="The `next` of the page before.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="The oldest or the newest first.")] = "asc",
) -> ItemPage:
    """Show the questions and answers of a conversation."""
    conversation = await _load(repository, pools, conversation_id, owner)
    found = await pools.sql.run(repository.items, conversation, limit=limit + 1, after=after, ascending=order == "asc")
    views = [view for item in found[:limit] if (view := _view(item)) is not None]
    return ItemPage(items=views, next=found[limit - 1].item_id if len(found) > limit else None)


@router.delete("/conversations/{conversation_id}", status_code=204, responses=openapi_problems(404, 422, 503))
async def delete(
    conversation_id: str, repository: ConversationRepositoryDep, pools: PoolsDep, owner: VisibleOwnerDep
) -> None:
    """Delete a conversation with its questions and answers. The results of its jobs stay as long as results do."""
    conversation = await _load(repository, pools, conversation_id, owner)
    await pools.sql.run(repository.remove, conversation)
    logs.audit("conversation_deleted", owner=conversation.user_id)


async def _load(
    repository: ConversationRepository, pools: Pools, conversation_id: str, owner: str | None
) -> Conversation:
    conversation = await pools.sql.run(repository.get, conversation_id, user_id=owner)
    if conversation is None:
        raise ConversationNotFound("there is no such conversation: GET /conversations lists yours")
    return conversation


def _view(item: ConversationItem) -> ItemView | None:
    if item.said is None or item.created_at is None:
        return None
    role, text = item.said
    sources = item.data["answer"]["sources"] if item.data.get("type") == "answer" else None
    return ItemView(
        id=item.item_id,
        role="user" if role == "user" else "assistant",
        text=text,
        sources=sources,
        job_id=item.job_id,
        created_at=item.created_at,
    )


def _cursor(time: datetime) -> str:
    return f"{time.timestamp() * 1_000_000:.0f}"


def _parse_cursor(cursor: str) -> datetime:
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(cursor))
    except (ValueError, OverflowError):
        raise InvalidRequest([("cursor", "must be the `next` of a page of GET /conversations")]) from None
