"""Points as lines of JSON, with their vectors as they are stored: to embed texts again would cost money."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from qdrant_edge import SparseVector

from client.qdrant.base import Engine, Point, PointFilter
from client.qdrant.points import DENSE_VECTOR, METADATA_KEY
from errors import NothingIndexed

# A page of 250 points of 1,536 dimensions is 8 MB of JSON from a server.
PAGE_POINTS = 250
# A server takes 32 MB in one request, by default.
WRITTEN_POINTS = 100
_FLOAT, _UNSIGNED = "f", "I"


def read_points(engine: Engine, where: PointFilter = PointFilter()) -> Iterator[list[Point]]:  # noqa: B008  frozen
    """Yield the points of a collection in pages; nothing without the collection. Raises StoreError."""
    after: str | None = None
    while True:
        try:
            points, after = engine.scroll(where, after=after, limit=PAGE_POINTS)
        except NothingIndexed:
            return
        if points:
            yield points
        if after is None:
            return


def write_points(engine: Engine, points: Sequence[Point]) -> None:
    """Store points with their vectors. Raises StoreError."""
    dense = next((vector for point in points if isinstance(vector := point.vectors.get(DENSE_VECTOR), list)), None)
    for start in range(0, len(points), WRITTEN_POINTS):
        engine.upsert(points[start : start + WRITTEN_POINTS], dimensions=None if dense is None else len(dense))


def upload_of(point: Point) -> tuple[str, str]:
    """Return the ids of the user and the upload of a point; empty ids for a point that is no chunk."""
    metadata = point.payload.get(METADATA_KEY)
    if not isinstance(metadata, dict):
        return "", ""
    return str(metadata.get("user_id", "")), str(metadata.get("upload_id", ""))


def to_json(point: Point) -> bytes:
    """Return a point as a line of JSON: dense vectors as base64 of 4-byte floats, sparse ones with their indices."""
    vectors = {name: _encode_vector(vector) for name, vector in point.vectors.items()}
    return orjson.dumps([point.id, vectors, point.payload])


def from_json(line: bytes) -> Point:
    """Read a line that `to_json` wrote. Raises ValueError."""
    point_id, vectors, payload = orjson.loads(line)
    return Point(point_id, {name: _decode_vector(vector) for name, vector in vectors.items()}, payload)


def _encode_vector(vector: list[float] | SparseVector) -> str | list[str]:
    if isinstance(vector, SparseVector):
        return [_encode(_UNSIGNED, vector.indices), _encode(_FLOAT, vector.values)]
    return _encode(_FLOAT, vector)


def _decode_vector(encoded: str | list[str]) -> list[float] | SparseVector:
    if isinstance(encoded, str):
        return _decode(_FLOAT, encoded).tolist()
    indices, values = encoded
    return SparseVector(_decode(_UNSIGNED, indices).tolist(), _decode(_FLOAT, values).tolist())


def _encode(kind: str, numbers: Sequence[float]) -> str:
    numbers_of_kind = array(kind, numbers)
    if sys.byteorder == "big":
        numbers_of_kind.byteswap()
    return base64.b64encode(numbers_of_kind.tobytes()).decode()


def _decode(kind: str, text: str) -> array[Any]:
    numbers = array(kind, base64.b64decode(text))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
