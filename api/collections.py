"""Collections: vector stores by the names that their owner gave them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from api.pools import Pools
from client.rq.ids import new_id
from client.sql.stores import MAX_FILES, TooManyFiles, VectorStoreRepository
from errors import CollectionNotFound, InvalidRequest
from schemas import check_text
from schemas.stores import VectorStore

CollectionName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), AfterValidator(check_text)
]
ChosenCollection = Annotated[
    CollectionName | None,
    Field(description="Search only the documents of this collection, and those of `upload_id`, if given."),
]


async def stores_of(
    names: Sequence[str], *, stores: VectorStoreRepository, pools: Pools, user_id: str
) -> dict[str, tuple[str, ...]]:
    """Return the vector stores of collections, and note that they are used. Raises CollectionNotFound, InvalidRequest.

    Two uploads at the same moment may make two stores of one name: the collection has the documents of both.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in set(names):
        named = await pools.sql.run(stores.named, name, user_id=user_id)
        if not named:
            raise CollectionNotFound("you have no such collection: POST /uploads with `collection` makes one")
        usable = [store for store in named if not store.expired]
        if not usable:
            raise InvalidRequest([("collection", "has expired: it was not used for too long")])
        await pools.sql.run(stores.touch, usable)
        found[name] = tuple(store.store_id for store in usable)
    return found


async def add_to_collection(
    name: str, upload_ids: Sequence[str], *, stores: VectorStoreRepository, pools: Pools, user_id: str
) -> None:
    """Put uploads into the collection, which is made if there is none. Raises InvalidRequest."""
    named = [one for one in await pools.sql.run(stores.named, name, user_id=user_id) if not one.expired]
    if named:
        store = named[0]
    else:
        now = datetime.now(UTC)
        store = VectorStore(store_id=new_id(), user_id=user_id, name=name, created_at=now, last_active_at=now)
        await pools.sql.run(stores.add, store)
    try:
        await pools.sql.run(stores.add_files, store.store_id, {one: {} for one in upload_ids})
    except TooManyFiles:
        raise InvalidRequest([("collection", f"has {MAX_FILES:,} documents, the most that it may have")]) from None
