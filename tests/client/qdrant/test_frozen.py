"""A collection is read whole while others write to it: from a copy, for which its owner waits once."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.files.locks import HandoverLock
from client.qdrant.base import Collections, Engine
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import EmbeddedCollections, embedded_store
from client.qdrant.shard import ShardFolder
from client.qdrant.store import VectorStore
from client.qdrant.transfer import PAGE_POINTS, read_points
from errors import StoreDamaged
from tests.client.qdrant.test_stores import chunks
from tests.support.processes import wait_until

POINTS = 2 * PAGE_POINTS + 1


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[VectorStore]:
    """The store of a worker, which keeps it open."""
    store = embedded_store(tmp_path / "qdrant", model="m", dense=None, bm25=Bm25Encoder(), owner=True)
    store.upsert(chunks(texts=[f"Note {number} of the keeper." for number in range(POINTS)]))
    yield store
    store.close()


@pytest.fixture
def other(owned: VectorStore, tmp_path: Path) -> Iterator[Collections]:
    """The same collections as another process has them."""
    collections = EmbeddedCollections(tmp_path / "qdrant")
    owned.engine.payloads([])  # the worker has it open
    yield collections
    collections.close()


def only(collections: Collections) -> Engine:
    """Return the engine of the only collection."""
    [name] = collections.names()
    return collections.engine(name)


def test_it_is_the_collection_of_one_moment(owned: VectorStore, other: Collections, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    with other.frozen(folder) as frozen:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert frozen.is_still
        pages = read_points(only(frozen.collections))
        frozen.release()
        ids = [point.id for point in next(pages)]
        owned.upsert(chunks("u2"))
        ids += [point.id for page in pages for point in page]
    assert len(set(ids)) == len(ids) == POINTS
    assert not folder.exists()
    assert sum(map(len, read_points(only(other)))) == POINTS + len(chunks("u2"))


def test_its_owner_gives_it_away_once(
    owned: VectorStore, other: Collections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = ShardFolder._close

    def note(self: ShardFolder, name: str) -> None:
        if self.path == tmp_path / "qdrant" and name in self._shards and self._keep_open:
            closed.append(name)
        close(self, name)

    monkeypatch.setattr(ShardFolder, "_close", note)
    with other.frozen(tmp_path / "copy") as frozen:
        frozen.release()
        for _ in read_points(only(frozen.collections)):
            owned.engine.payloads([])  # as a question does between two pages
    assert len(closed) <= 2


def test_what_a_killed_reader_left_is_replaced(other: Collections, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    (folder / "left").mkdir(parents=True)
    with other.frozen(folder) as frozen:
        assert not (folder / "left").exists()
        assert sum(map(len, read_points(only(frozen.collections)))) == POINTS
    with pytest.raises(ValueError, match="stopped"), other.frozen(folder):
        raise ValueError("stopped")
    assert not folder.exists()


def test_damage_is_named_by_its_place(owned: VectorStore, other: Collections, tmp_path: Path) -> None:
    owned.close()
    [config] = (tmp_path / "qdrant").glob("*/edge_config.json")
    config.write_bytes(b"")
    with pytest.raises(StoreDamaged) as caught, other.frozen(tmp_path / "copy"):
        pass
    assert str(tmp_path / "qdrant") in caught.value.detail
    assert not (tmp_path / "copy").exists()


def test_nobody_writes_until_the_release(owned: VectorStore, other: Collections, tmp_path: Path) -> None:
    with other.frozen(tmp_path / "copy") as frozen:
        writer = threading.Thread(target=owned.upsert, args=[chunks("u2")])
        writer.start()
        wait_until(HandoverLock(tmp_path / "qdrant").contended)
        assert writer.is_alive()
        frozen.release()
        writer.join(60)
        assert not writer.is_alive()
        assert sum(map(len, read_points(only(frozen.collections)))) == POINTS
    assert sum(map(len, read_points(only(other)))) == POINTS + len(chunks("u2"))


def test_a_collection_that_is_removed_meanwhile_is_left_out(
    other: Collections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = other.names()
    monkeypatch.setattr(EmbeddedCollections, "names", lambda _: [*names, "chunks-removed"])
    with other.frozen(tmp_path / "copy") as frozen:
        assert sum(map(len, read_points(frozen.collections.engine(names[0])))) == POINTS


def test_a_collection_that_does_not_exist_has_no_points(tmp_path: Path) -> None:
    collections = EmbeddedCollections(tmp_path / "qdrant")
    with collections.frozen(tmp_path / "copy") as frozen:
        pages: list[Any] = list(read_points(frozen.collections.engine("chunks-none")))
    assert pages == []
    collections.close()
