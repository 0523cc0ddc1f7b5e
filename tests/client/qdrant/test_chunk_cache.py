"""The cache of chunks: exact while others write, and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.qdrant.chunk_cache import MAX_CHUNKS, ChunkCache
from client.qdrant.points import payload_of
from schemas import Chunk


class Reader:
    """Payloads as they are stored; counts the ids that are read."""

    def __init__(self, text: str = "old") -> None:
        self.text = text
        self.ids: list[str] = []

    def __call__(self, ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
        self.ids += ids
        return {id_: payload_of(chunk(id_, self.text)) for id_ in ids if id_ != "gone"}


def chunk(id_: str, text: str) -> Chunk:
    place = {"index": 0, "page": 1, "page_label": "1", "start": 0, "end": len(text)}
    return Chunk(id=id_, upload_id="u", user_id="local", name="a.pdf", text=text, **place)


def test_a_chunk_is_read_once() -> None:
    cache, read = ChunkCache(), Reader()
    assert cache.get(["a", "b"], read) == {"a": chunk("a", "old"), "b": chunk("b", "old")}
    assert cache.get({"b", "c"}, read).keys() == {"b", "c"}
    assert read.ids == ["a", "b", "c"]


def test_a_point_that_does_not_exist_is_asked_for_again() -> None:
    cache, read = ChunkCache(), Reader()
    assert cache.get(["gone"], read) == cache.get(["gone"], read) == {}
    assert read.ids == ["gone", "gone"]


def test_after_a_write_the_store_is_read_again() -> None:
    cache = ChunkCache()
    cache.get(["a"], Reader("old"))
    cache.clear()
    assert cache.get(["a"], Reader("new"))["a"] == chunk("a", "new")


def test_what_was_read_during_a_write_is_not_kept() -> None:
    cache = ChunkCache()

    def read_and_write(ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
        found = Reader("old")(ids)
        cache.clear()
        return found

    assert cache.get(["a"], read_and_write)["a"] == chunk("a", "old")
    assert cache.get(["a"], Reader("new"))["a"] == chunk("a", "new")


def test_the_oldest_chunks_give_way() -> None:
    cache, read = ChunkCache(), Reader()
    for number in range(MAX_CHUNKS + 1):
        cache.get([str(number)], read)
    read.ids.clear()
    cache.get(["1", "0"], read)
    assert read.ids == ["0"]
