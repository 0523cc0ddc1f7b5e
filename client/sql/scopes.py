"""What a question may search: the look-ups of the list of uploads that every question makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, func, literal_column, select, true

from client.sql.database import HIDDEN, PENDING, SEARCHABLE, IndexVersionRow, StoreFileRow, UploadRow, VectorStoreRow
from client.sql.lookups import Lookup
from schemas.attribute_filters import AttributeValue, matches
from schemas.stores import StoreMembers

# The version of the index that is searched.
SEARCHED = select(IndexVersionRow.version_id).where(IndexVersionRow.state == literal_column("'searched'"))


@dataclass(frozen=True, slots=True)
class SearchScope:
    """What a question of a user may search now.

    `index_version`: the version of the index that is searched; None before the first. `hidden`: the uploads whose
    chunks must not be found. `not_searched`: how many uploads are not searched yet, since they wait to be indexed.
    """

    index_version: int | None
    hidden: tuple[str, ...]
    not_searched: int


def read_scope(lookup: Lookup, user_id: str | None) -> SearchScope:
    """Return what a question of the user may search."""
    remembered, key = lookup.remembered(), ("scope", user_id)
    if key not in remembered:
        everyone, owner = user_id is None, _owner(user_id)
        hidden = tuple(upload_id for (upload_id,) in lookup.rows(_hidden(everyone=everyone), **owner))
        [(pending,)] = lookup.rows(_pending_count(everyone=everyone), **owner)
        remembered[key] = SearchScope(_searched_version(lookup, remembered), hidden, pending)
    scope: SearchScope = remembered[key]
    return scope


def read_searchable(lookup: Lookup, user_id: str | None, ids: list[str]) -> set[str]:
    """As UploadRepository.searchable, for at least one id."""
    values = _padded(ids)
    rows = lookup.rows(_searchable_among(len(values)), **values)
    return {upload_id for upload_id, owner in rows if user_id is None or owner == user_id}


def read_names(lookup: Lookup, user_id: str | None, ids: list[str]) -> dict[str, str]:
    """As UploadRepository.names, for at least one id."""
    values = _padded(ids)
    rows = lookup.rows(_names_among(len(values)), **values)
    return {upload_id: name for upload_id, name, owner in rows if user_id is None or owner == user_id}


def _padded(ids: Sequence[str]) -> dict[str, str]:
    """Return the ids as parameters `id0`, `id1`, ...: as many as a power of 2, so that few statements are compiled."""
    size = 1 << (len(ids) - 1).bit_length()
    return {f"id{n}": one for n, one in enumerate([*ids, *[ids[0]] * (size - len(ids))])}


def read_searchable_version(lookup: Lookup, user_id: str | None) -> str:
    """As UploadRepository.searchable_version."""
    remembered = lookup.remembered()  # counting 100,000 uploads takes 12 ms
    if user_id not in remembered:
        [(count, latest)] = lookup.rows(_searchable_count(everyone=user_id is None), **_owner(user_id))
        remembered[user_id] = f"{count}/{_utc(latest)}/{_searched_version(lookup, remembered)}"
    version: str = remembered[user_id]
    return version


def read_members(
    lookup: Lookup, user_id: str | None, store_ids: Sequence[str], filters: Mapping[str, Any] | None
) -> StoreMembers:
    """As UploadRepository.members."""
    values = _padded(store_ids)
    attributes: dict[str, dict[str, AttributeValue]] = {}
    pending = 0
    for upload_id, owner, stored, searchable, waiting in lookup.rows(_members_of(len(values)), **values):
        own = orjson.loads(stored) if isinstance(stored, str) else stored
        if (user_id is not None and owner != user_id) or (filters is not None and not matches(filters, own)):
            continue
        if searchable:
            attributes[upload_id] = own
        pending += bool(waiting)
    return StoreMembers(attributes=attributes, not_searched=pending)


@cache
def _members_of(size: int) -> Select[Any]:
    """Return the statement for the documents in `size` stores: `id0`, `id1`, ..., whoever owns them."""
    ids: list[BindParameter[str]] = [bindparam(f"id{n}") for n in range(size)]
    return select(
        UploadRow.upload_id,
        VectorStoreRow.user_id,
        StoreFileRow.attributes,
        literal_column(SEARCHABLE.text).label("searchable"),
        literal_column(PENDING.text).label("waiting"),
    ).where(
        VectorStoreRow.store_id.in_(ids),
        StoreFileRow.store_id == VectorStoreRow.store_id,
        StoreFileRow.upload_id == UploadRow.upload_id,
        StoreFileRow.cancelled.is_(False),
    )


@cache
def _searchable_among(size: int) -> Select[str, str]:
    """Return the statement for the searchable uploads, with their users, among `size` ids: `id0`, `id1`, ...

    SQLite would read all uploads of the user if the statement named the user: 100 ms for 100,000 uploads.
    """
    ids: list[BindParameter[str]] = [bindparam(f"id{n}") for n in range(size)]
    return select(UploadRow.upload_id, UploadRow.user_id).where(UploadRow.upload_id.in_(ids), SEARCHABLE)


@cache
def _names_among(size: int) -> Select[str, str, str]:
    """Return the statement for the names of uploads, with their users, among `size` ids; see _searchable_among."""
    ids: list[BindParameter[str]] = [bindparam(f"id{n}") for n in range(size)]
    return select(UploadRow.upload_id, UploadRow.name, UploadRow.user_id).where(UploadRow.upload_id.in_(ids))


@cache
def _searchable_count(*, everyone: bool) -> Select[int, datetime | None]:
    """Return the statement for the number of searchable uploads of `user_id`, and the time of the latest indexing."""
    return select(func.count(), func.max(UploadRow.indexed_at)).where(_of_bound_user(everyone=everyone), SEARCHABLE)


def _searched_version(lookup: Lookup, remembered: dict[Any, Any]) -> int | None:
    """Return the version of the index that is searched; None before the first."""
    if "index" not in remembered:
        rows = lookup.rows(SEARCHED)
        remembered["index"] = rows[0][0] if rows else None
    version: int | None = remembered["index"]
    return version


@cache
def _pending_count(*, everyone: bool) -> Select[int]:
    """Return the statement for the number of uploads of `user_id` that wait to be indexed for the first time."""
    return select(func.count()).select_from(UploadRow).where(_of_bound_user(everyone=everyone), PENDING)


@cache
def _hidden(*, everyone: bool) -> Select[str]:
    """Return the statement for the uploads of `user_id` that must not be found."""
    return select(UploadRow.upload_id).where(_of_bound_user(everyone=everyone), HIDDEN)


def _of_bound_user(*, everyone: bool) -> ColumnElement[bool]:
    return true() if everyone else UploadRow.user_id == bindparam("user_id")


def _owner(user_id: str | None) -> dict[str, str]:
    """Return the values of the statements' parameters."""
    return {} if user_id is None else {"user_id": user_id}


def _utc(value: datetime | str | None) -> datetime | None:
    """Return a time as the driver returned it, in UTC: a datetime of PostgreSQL, a text of SQLite."""
    if isinstance(value, str):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return None if value is None else value.astimezone(UTC)
