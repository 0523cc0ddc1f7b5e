"""Conversations: /v1/conversations makes, changes and deletes them, and lists, adds and deletes their items.

A response that names a conversation adds its input and its answer when it has ended.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.callbacks import MetadataKey, MetadataValue, few_pairs
from api.citation_links import CitationLinks, citation_links
from api.dependencies import require_scope
from api.v1 import ids
from api.v1.bodies import check_items, read_body
from api.v1.errors import ApiError, OpenAIRoute
from api.v1.lists import Limit, Order, page_of
from api.v1.repeats import reserve_id
from api.v1.response_objects import Asked, input_item, message, said, text_part
from api.v1.sending import JsonResponse
from client.rq.ids import new_id
from client.sql.conversations import MAX_ITEMS, TooManyItems
from client.sql.database import DuplicateRow
from observability import logs
from schemas import Answer, KeyScope, ResponseRequest
from schemas.conversations import Conversation, ConversationItem

MAX_ADDED: Final = 20
MAX_PAIRS: Final = 16
_Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(max_length=MAX_PAIRS),
    BeforeValidator(lambda value: value or {}),
    few_pairs(MAX_PAIRS),
]
_Items = Annotated[list[Any], Field(max_length=MAX_ADDED)]

# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(
    prefix="/v1", route_class=OpenAIRoute, dependencies=[require_scope(KeyScope.QUERY)], include_in_schema=False
)


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _CreateConversation(_Body):
    metadata: _Metadata = Field(default_factory=dict)
    items: _Items | None = None


class _ChangeConversation(_Body):
    metadata: _Metadata


class _AddItems(_Body):
    items: Annotated[_Items, Field(min_length=1)]


@router.post("/conversations")
async def create(request: Request) -> Response:
    """Make a conversation, with its first items."""
    body, given = await read_body(request, _CreateConversation)
    check_items(body.items or [], param="items")
    items = _new_items(body.items or [], new_id())
    state = request.state
    now = datetime.now(UTC)
    conversation_id = await reserve_id(request, {"kind": "conversation", **given}, only_by_key=True)
    conversation = Conversation(
        conversation_id=ids.to_theirs(ids.CONVERSATION, conversation_id),
        user_id=state.caller.user_id,
        details=body.metadata,
        kept=True,
        created_at=now,
        updated_at=now,
    )
    with suppress(DuplicateRow):  # a repeated request
        await state.pools.sql.run(state.conversations.add, conversation, items)
    return JsonResponse(_shown(conversation))


@router.get("/conversations/{conversation_id}")
async def retrieve(conversation_id: str, request: Request) -> Response:
    """Return a conversation."""
    return JsonResponse(_shown(await load_conversation(request, conversation_id)))


@router.post("/conversations/{conversation_id}")
async def change(conversation_id: str, request: Request) -> Response:
    """Give a conversation other metadata."""
    conversation = await load_conversation(request, conversation_id)
    body, _ = await read_body(request, _ChangeConversation)
    await request.state.pools.sql.run(request.state.conversations.change, conversation, body.metadata)
    return JsonResponse(_shown(conversation.model_copy(update={"details": body.metadata})))


@router.delete("/conversations/{conversation_id}")
async def delete(conversation_id: str, request: Request) -> Response:
    """Delete a conversation with its items."""
    conversation = await load_conversation(request, conversation_id)
    await request.state.pools.sql.run(request.state.conversations.remove, conversation)
    logs.audit("conversation_deleted", owner=conversation.user_id)
    return JsonResponse({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@router.post("/conversations/{conversation_id}/items")
async def add_items(conversation_id: str, request: Request) -> Response:
    """Add items at the end of a conversation. A repeated request finds them added."""
    conversation = await load_conversation(request, conversation_id)
    body, given = await read_body(request, _AddItems)
    check_items(body.items, param="items")
    fields = {"kind": "items of a conversation", "conversation": conversation_id, **given}
    items = _new_items(body.items, await reserve_id(request, fields))
    state = request.state
    try:
        with suppress(DuplicateRow):
            await state.pools.sql.run(state.conversations.add_items, conversation, items)
    except TooManyItems:
        message_ = f"a conversation has at most {MAX_ITEMS:,} items: begin another"
        raise ApiError(message_, code="conversation_item_limit_reached", param="items") from None
    links = await citation_links(request)
    return JsonResponse(page_of([_item(item, links) for item in items], more=False))


@router.get("/conversations/{conversation_id}/items")
async def items(
    conversation_id: str, request: Request, after: str | None = None, order: Order = "desc", limit: Limit = 20
) -> Response:
    """List the items of a conversation, those added last first."""
    conversation = await load_conversation(request, conversation_id)
    if after is not None:
        await _load_item(request, conversation, after, param="after")
    state = request.state
    found = await state.pools.sql.run(
        state.conversations.items, conversation, limit=limit + 1, after=after, ascending=order == "asc"
    )
    links = await citation_links(request)
    shown = [_item(item, links) for item in found[:limit]]
    # The SDK's type has no null here.
    return JsonResponse({"first_id": "", "last_id": ""} | _filled(page_of(shown, more=len(found) > limit)))


@router.get("/conversations/{conversation_id}/items/{item_id}")
async def retrieve_item(conversation_id: str, item_id: str, request: Request) -> Response:
    """Return an item."""
    conversation = await load_conversation(request, conversation_id)
    item = await _load_item(request, conversation, item_id)
    return JsonResponse(_item(item, await citation_links(request)))


@router.delete("/conversations/{conversation_id}/items/{item_id}")
async def delete_item(conversation_id: str, item_id: str, request: Request) -> Response:
    """Delete an item, and return the conversation."""
    conversation = await load_conversation(request, conversation_id)
    item = await _load_item(request, conversation, item_id)
    await request.state.pools.sql.run(request.state.conversations.remove_item, conversation, item.item_id)
    return JsonResponse(_shown(conversation))


async def load_conversation(
    request: Request, conversation_id: str, *, param: str = "conversation_id", own: bool = False
) -> Conversation:
    """Return a conversation. `own`: only one of the caller, also for an admin. Raises ApiError if there is none."""
    ids.to_ours(ids.CONVERSATION, conversation_id, param=param)
    state = request.state
    owner = state.caller.user_id if own else state.caller.visible_owner
    conversation: Conversation | None = await state.pools.sql.run(
        state.conversations.get, conversation_id, user_id=owner
    )
    if conversation is None:
        raise ids.not_found(ids.CONVERSATION, param=param)
    return conversation


async def _load_item(
    request: Request, conversation: Conversation, item_id: str, *, param: str = "item_id"
) -> ConversationItem:
    state = request.state
    item: ConversationItem | None = await state.pools.sql.run(state.conversations.item, conversation, item_id[:100])
    if item is None:
        message_ = "the conversation has no item with this id: check the id"
        raise ApiError(message_, code="item_not_found", param=param, status=404)
    return item


def _new_items(given: list[Any], first_id: str) -> list[ConversationItem]:
    """Return items that a client adds, under ids of our own, which count on from the first."""
    names = [str(UUID(int=UUID(first_id).int + number)) for number in range(len(given))]
    kinds = [ids.MESSAGE if item.get("type", "message") == "message" else "item_" for item in given]
    return [
        ConversationItem(item_id=ids.to_theirs(kind, name), data=item)
        for kind, name, item in zip(kinds, names, given, strict=True)
    ]


def _filled(page: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in page.items() if value is not None}


def _shown(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.conversation_id,
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "metadata": conversation.details,
    }


def _item(item: ConversationItem, links: CitationLinks) -> dict[str, Any]:
    """Return an item; of an answer, the message with its citations, whose links are valid from now on."""
    if item.data.get("type") != "answer":
        return input_item(item.item_id, item.data)
    answer = Answer.model_validate(item.data["answer"])
    tools = ({"type": "file_search"},) if item.data.get("cites_files") else ()
    asked = Asked(item.job_id or "", int(time.time()), "", ResponseRequest(tools=tools), links)
    status = "completed" if answer.incomplete is None else "incomplete"
    return message(item.item_id, status, [text_part(said(asked, answer))])
