"""Searches of many uploads, such as the files of a large vector store.

The engine's filter by upload takes 0.1 ms of CPU a question for each upload that it names. A search of many uploads
asks for more hits without that filter, and leaves out those of other uploads. Where the first hits are not enough, more
are asked for, and at last the engine's filter is used: the hits are the same on each way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from client.qdrant.base import Engine, FieldMatch, Hit, PointFilter, VectorQuery
from client.qdrant.points import UPLOAD_FIELD

# Up to so many uploads the engine's filter is the quicker way: 500 take 50 ms of CPU among 20,000 chunks.
MAX_FILTERED = 500
# How many times as many hits as are wanted are asked for, one after the other.
FACTORS = (4, 16, 64)


@dataclass(frozen=True, slots=True)
class _WideQuery:
    """A query of many uploads: its place among the queries, itself, and the query without the filter by upload."""

    place: int
    query: VectorQuery
    open_query: VectorQuery
    uploads: Collection[str]


def search(engine: Engine, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
    """As Engine.search. Document frequencies of a search of many uploads are those of all uploads of the user."""
    wide = [_WideQuery(place, query, *opened) for place, query in enumerate(queries) if (opened := _opened(query))]
    if not wide:
        return engine.search(queries)
    asked = list(queries)
    for each in wide:
        asked[each.place] = _asking_for(each, FACTORS[0])
    hits = engine.search(asked)
    for factor in (*FACTORS[1:], None):
        wide = _settle(wide, asked, hits)
        if not wide:
            break
        for each in wide:
            asked[each.place] = _asking_for(each, factor)
        for each, found in zip(wide, engine.search([asked[each.place] for each in wide]), strict=True):
            hits[each.place] = found
    return hits


def _settle(wide: list[_WideQuery], asked: list[VectorQuery], hits: list[list[Hit]]) -> list[_WideQuery]:
    """Leave out the hits of other uploads; return the queries whose hits are too few."""
    short = []
    for each in wide:
        found = hits[each.place]
        kept = [hit for hit in found if hit.chunk is not None and hit.chunk.upload_id in each.uploads]
        if len(kept) < each.query.limit and len(found) == asked[each.place].limit and not each.query.with_vector:
            short.append(each)
        elif not each.query.with_vector:  # such a hit tells a document frequency, and is of no upload
            hits[each.place] = kept[: each.query.limit]
    return short


def _asking_for(wide: _WideQuery, factor: int | None) -> VectorQuery:
    """Return the query for so many times the hits; None filters by upload in the engine."""
    if factor is None:
        return replace(wide.query, corpus=wide.open_query.corpus)
    return wide.open_query if wide.query.with_vector else replace(wide.open_query, limit=factor * wide.query.limit)


def _opened(query: VectorQuery) -> tuple[VectorQuery, Collection[str]] | None:
    """Return the query without its filter by upload, and the uploads of that filter; None if these are few."""
    for condition in query.where.must:
        if isinstance(condition, FieldMatch) and _is_wide(condition):
            corpus = None if query.corpus is None else _without_uploads(query.corpus)
            return replace(query, where=_without_uploads(query.where), corpus=corpus), frozenset(condition.values)  # type: ignore[arg-type]
    return None


def _is_wide(condition: FieldMatch) -> bool:
    return condition.field == UPLOAD_FIELD and len(condition.values) > MAX_FILTERED


def _without_uploads(where: PointFilter) -> PointFilter:
    kept = (one for one in where.must if not (isinstance(one, FieldMatch) and _is_wide(one)))
    return replace(where, must=tuple(kept))
