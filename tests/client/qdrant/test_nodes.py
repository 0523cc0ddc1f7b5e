"""Several nodes of one Qdrant, how a collection is replicated, and vectors that no longer fit the index."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi import FastAPI, Response

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.connection import connect
from client.qdrant.embedded import embedded_store
from client.qdrant.health import vector_store_condition
from client.qdrant.points import collection_name
from client.qdrant.server import Replication, server_store
from client.qdrant.store import VectorStore
from errors import EmbeddingSizeChanged, StoreUnavailable
from settings import Settings
from tests.client.qdrant.test_stores import MINE, TEXTS, WordEmbeddings, chunks, search
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.processes import free_port
from tests.support.qdrant_server import QdrantServer, make_server


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[str]:
    """A Qdrant server."""
    with serving(make_server(tmp_path / "server")) as url:
        yield url


@pytest.fixture
def dead() -> str:
    """The URL of a node that is down."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def shedding() -> Iterator[str]:
    """A node that answers each request with 503, as one that has lost its cluster."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "PUT", "POST"])
    def refuse() -> Response:
        return Response(status_code=503)

    with serving(app) as url:
        yield url


def open_store(settings: Settings, replication: Replication | None = None) -> VectorStore:
    options = {} if replication is None else {"replication": replication}
    return server_store(connect(settings), model="bm25", dense=None, bm25=Bm25Encoder(), **options)


def test_the_nodes_are_tried_in_turn(qdrant: str, dead: str, shedding: str, make_settings: MakeSettings) -> None:
    for nodes in ((dead, qdrant), (shedding, qdrant), (qdrant, dead), (dead, shedding, qdrant)):
        settings = make_settings(qdrant_url=", ".join(nodes))
        with closing(open_store(settings)) as store:
            store.upsert(chunks())
            assert search(store, "museum", MINE, 3)
        assert asyncio.run(vector_store_condition(settings)) == "ready"


def test_no_node_that_answers_is_an_outage(dead: str, shedding: str, make_settings: MakeSettings) -> None:
    for nodes in ((dead, dead), (shedding, dead), (dead, shedding)):
        settings = make_settings(qdrant_url=",".join(nodes))
        with closing(open_store(settings)) as store, pytest.raises(StoreUnavailable, match="Qdrant server"):
            store.count(MINE)
        assert asyncio.run(vector_store_condition(settings)) == "unavailable"


def test_a_node_that_is_killed_is_replaced_by_the_next(
    tmp_path: Path, qdrant: str, make_settings: MakeSettings
) -> None:
    (tmp_path / "node").mkdir()
    node = QdrantServer(tmp_path / "node")
    with node.running():
        store = open_store(make_settings(qdrant_url=f"{node.url},{qdrant}"))
        store.upsert(chunks())
        node.kill()
        store.upsert(chunks())
        assert store.count(MINE) == len(TEXTS)
        store.close()


def test_the_key_goes_to_every_node_and_http_on_this_machine_needs_no_warning(
    qdrant: str, dead: str, make_settings: MakeSettings
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for url in (qdrant, f"{dead},{qdrant}"):
            with closing(open_store(make_settings(qdrant_url=url, qdrant_api_key="the-key"))) as store:
                store.upsert(chunks())
                assert store.count(MINE) == len(TEXTS)


def test_a_new_collection_is_replicated_and_an_old_one_keeps_what_it_has(
    qdrant: str, make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(qdrant_url=qdrant)
    with closing(open_store(settings, Replication(2, 1))) as store:
        store.upsert(chunks())
    client = connect(settings)
    params = client.get_collection(collection_name("bm25")).config.params
    assert (params.replication_factor, params.write_consistency_factor) == (2, 1)
    client.close()
    for replication, warned in ((Replication(2, 1), False), (Replication(3, 2), True)):
        with caplog.at_level(logging.WARNING), closing(open_store(settings, replication)) as store:
            caplog.clear()
            store.upsert(chunks())
        assert ("QDRANT_REPLICATION=3 and QDRANT_WRITE_CONSISTENCY=2" in caplog.text) == warned


class HalfAsLong(WordEmbeddings):
    """The same embeddings after a change of the model: vectors of half their length."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector[:32] for vector in super().embed_documents(texts)]

    def embed_query(self, text: str) -> list[float]:
        return super().embed_query(text)[:32]


@pytest.mark.parametrize("engine", ["embedded", "server"])
def test_embeddings_of_another_size_are_named_and_change_nothing(
    engine: str, qdrant: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    def opened(dense: WordEmbeddings) -> VectorStore:
        if engine == "embedded":
            return embedded_store(tmp_path / "qdrant", model="m", dense=dense, bm25=Bm25Encoder())
        return server_store(connect(make_settings(qdrant_url=qdrant)), model="m", dense=dense, bm25=Bm25Encoder())

    with closing(opened(WordEmbeddings())) as store:
        store.upsert(chunks())
    with closing(opened(HalfAsLong())) as store:
        actions: list[Callable[[], object]] = [
            lambda: store.upsert(chunks("u2")),
            lambda: search(store, "museum", MINE, 3),
        ]
        for action in actions:
            with pytest.raises(EmbeddingSizeChanged, match="have 32 dimensions, those of the index 64: the model"):
                action()
    with closing(opened(WordEmbeddings())) as store:
        assert store.count(MINE) == len(TEXTS)
        assert search(store, "museum", MINE, 3)
