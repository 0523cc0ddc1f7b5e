"""One description of points, filters and searches, which each engine translates for its own client.

Engines know nothing of chunks, users and rankings: `client.qdrant.queries` and `client.qdrant.store` do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from errors import EmbeddingSizeChanged, NothingIndexed
from observability import commands
from schemas import Chunk

if TYPE_CHECKING:
    from qdrant_edge import SparseVector


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """A payload field that holds one of `values`. Without values no point matches."""

    field: str
    values: list[str] | list[int]


@dataclass(frozen=True, slots=True)
class FieldRange:
    """A payload field that holds a number from `first` to `last`, both included; None means no bound."""

    field: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class PointFilter:
    """The points that meet every condition of `must` and none of `must_not`."""

    must: tuple[FieldMatch | FieldRange, ...] = ()
    must_not: tuple[FieldMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """One search: of the points of `where`, the `limit` points whose vector named `using` is nearest to `vector`.

    Inverse document frequencies are those of the points of `corpus`; None means all points of the collection.
    `with_vector` asks for the vectors of the hits instead of their chunks.
    """

    using: str
    vector: list[float] | SparseVector
    limit: int
    where: PointFilter = PointFilter()
    corpus: PointFilter | None = None
    with_vector: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A point that a search found.

    `chunk` is None for a point that is no chunk. `weights` is the point's sparse vector, by term. A query fills one of
    the two.
    """

    id: str
    score: float
    chunk: Chunk | None = None
    weights: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """A point to store. `vectors` holds dense and sparse vectors by name."""

    id: str
    vectors: Mapping[str, list[float] | SparseVector]
    payload: dict[str, Any]


# More values of a field than any collection has: `count_by` leaves out no value.
MAX_FACETS = 1_000_000


class Engine(Protocol):
    """One collection of points. Safe for threads.

    Every method raises StoreUnavailable, and those that read or delete points raise NothingIndexed while the collection
    does not exist. Payloads are returned by point id.
    """

    def upsert(self, points: Sequence[Point], *, dimensions: int | None) -> None:
        """Store points, replacing points with the same ids; on return they survive a crash.

        A missing collection is created, with dense vectors of `dimensions` numbers, or without any.
        """

    def payloads(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the payloads of the points that exist."""

    def chunks(self, ids: Sequence[str]) -> dict[str, Chunk | None]:
        """Return the chunks of the points that exist, by id; None for a point that is no chunk."""

    def scroll(self, where: PointFilter, *, after: str | None, limit: int) -> tuple[list[Point], str | None]:
        """Return a page of points with their vectors, in the order of their ids, and where the next page begins.

        `after`: what the call before returned, None for the first page. None is returned with the last page.
        """

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """Run all queries in one batch; return the hits of each, best first."""

    def delete(self, where: PointFilter) -> None:
        """Remove points from this collection."""

    def delete_everywhere(self, where: PointFilter) -> None:
        """Remove points from every collection of chunks in the same place, whatever its embedding model."""

    def count(self, where: PointFilter) -> int:
        """Count points exactly."""

    def count_by(self, outer: str, inner: str) -> dict[tuple[str, str], int]:
        """Count the points for each pair of values of two payload fields."""

    def deployment(self) -> str | None:
        """Return the id of the deployment that owns the collection; None while there is none, or no collection."""

    def check(self) -> None:
        """Read every point. Raises StoreDamaged, also for a damage that an operation has found, and NothingIndexed."""

    def set_aside(self) -> str:
        """Put a damaged collection aside, so that it is created again; return where it is now."""

    def claim(self, deployment_id: str) -> None:
        """Make a deployment the owner of the collection, now or when it is created.

        From then on `upsert` raises StoreRefused for a collection that has another owner.
        """

    def close(self) -> None:
        """Write everything to disk and release the collection."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Collections for one who reads all of them.

    `is_still`: they are those of one moment, at which nobody writes until `release` is called; otherwise they are the
    collections themselves, which change.
    """

    collections: Collections
    is_still: bool = False
    release: Callable[[], None] = lambda: None


class Collections(Protocol):
    """The collections of chunks in one place. Safe for threads. Every method but `engine` raises StoreUnavailable."""

    def engine(self, name: str) -> Engine:
        """Return the engine of a collection, which need not exist yet. Nothing connects."""

    def names(self) -> list[str]:
        """Return the names of the collections of chunks that exist."""

    def frozen(self, folder: Path) -> AbstractContextManager[Frozen]:
        """Return a block in which to read all points, so that others need not wait for the reader.

        Embedded collections are copied to `folder`, which is gone after the block. Raises OSError where that fails, and
        StoreDamaged.
        """

    def remove(self, name: str) -> None:
        """Delete a collection with all its points, if the collection exists."""

    def clear(self) -> None:
        """Delete all collections, and forget which deployment owns the place."""

    def close(self) -> None:
        """Write everything to disk and release all collections."""


def nothing_indexed() -> NothingIndexed:
    """Return the error for a collection that does not exist."""
    return NothingIndexed(f"nothing is indexed yet: run `{commands.script('index.py')} PATH`")


# How Qdrant, embedded or a server, refuses a vector of another length.
_OTHER_SIZE = re.compile(r"expected dim: (\d+), got (\d+)")


def embedding_size_changed(refusal: str) -> EmbeddingSizeChanged | None:
    """Return the error for vectors that do not fit the index, from what Qdrant says of them; None for other texts."""
    sizes = _OTHER_SIZE.search(refusal)
    if sizes is None:
        return None
    return EmbeddingSizeChanged(
        f"the embedding model's vectors have {sizes[2]} dimensions, those of the index {sizes[1]}: the model behind "
        f"EMBEDDING_MODEL has changed; run `{commands.script('main.py')} reindex --all`: it builds a new index "
        "while the old one is searched by words"
    )
