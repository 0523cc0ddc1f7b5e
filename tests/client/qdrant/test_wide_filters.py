"""A search of many uploads finds what a search filtered by the engine finds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from client.qdrant import wide_filters
from client.qdrant.base import Hit, VectorQuery
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from client.qdrant.queries import plan
from client.qdrant.server import server_store
from client.qdrant.store import VectorStore
from schemas import SearchFilter
from tests.client.qdrant.test_stores import WordEmbeddings, chunks
from tests.support.real_qdrant import ENGINES, client_of

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")

UPLOADS = 80
LIMIT = 5
QUESTION = "How many boats did the keeper count in the harbour?"


@pytest.fixture(scope="module", params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """A store of each engine with many uploads, the first of which fit the question best."""
    model, dense, bm25 = f"test-{uuid.uuid4().hex}", WordEmbeddings(), Bm25Encoder()
    folder = tmp_path_factory.mktemp("wide") / "qdrant"
    opened = (
        embedded_store(folder, model=model, dense=dense, bm25=bm25, owner=True)
        if request.param == "embedded"
        else server_store(client_of(request.param), model=model, dense=dense, bm25=bm25)
    )
    surveys = [chunks(f"u{number}", [_survey(number)], model=model) for number in range(UPLOADS)]
    foreign = chunks("foreign", [QUESTION] * 3, user="another", model=model)
    opened.upsert([chunk for document in (*surveys, foreign) for chunk in document])
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_filters, "MAX_FILTERED", 3)


def _survey(number: int) -> str:
    words = f"{'boats ' * (1 + (UPLOADS - number) // 8)}{'keeper ' if number < 40 else ''}harbour"
    return f"Survey {number} of the {words} {' '.join(f'w{number}x{n}' for n in range(1 + number % 7))}."


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(range(UPLOADS), id="all"),
        pytest.param(range(0, UPLOADS, 2), id="every second"),
        pytest.param(range(10, UPLOADS, 17), id="few"),
        pytest.param(range(UPLOADS - 12, UPLOADS), id="the worst"),
        pytest.param(range(UPLOADS, UPLOADS + 9), id="none that exists"),
    ],
)
def test_the_hits_are_those_of_the_engines_filter(store: VectorStore, numbers: range) -> None:
    uploads = tuple(f"u{number}" for number in numbers)
    queries = _plan(store, SearchFilter(user_id="local", upload_ids=uploads))
    found = wide_filters.search(store.engine, queries)
    for query, hits in zip(queries, found, strict=True):
        if not query.with_vector:
            assert _scores(hits) == _scores(_filtered(store, query))
            assert {hit.chunk.upload_id for hit in hits if hit.chunk} <= set(uploads)


def test_document_frequencies_are_those_of_all_uploads_of_the_user(store: VectorStore) -> None:
    many = _plan(store, SearchFilter(user_id="local", upload_ids=tuple(f"u{number}" for number in range(20))))
    every = _plan(store, SearchFilter(user_id="local"))
    found = wide_filters.search(store.engine, many)
    expected = store.engine.search(every)
    frequencies = [place for place, query in enumerate(every) if query.with_vector]
    assert frequencies
    for place in frequencies:
        assert _scores(found[place]) == _scores(expected[place])


def test_a_search_of_few_uploads_is_the_engines(store: VectorStore) -> None:
    queries = _plan(store, SearchFilter(user_id="local", upload_ids=("u1", "u50")))
    assert wide_filters.search(store.engine, queries) == store.engine.search(queries)


def test_hidden_uploads_and_pages_are_left_out(store: VectorStore) -> None:
    uploads = tuple(f"u{number}" for number in range(20))
    hidden = SearchFilter(user_id="local", upload_ids=uploads, hidden=("u0", "u1"), first_page=1, last_page=1)
    [results] = store.search(QUESTION, store.embed(QUESTION), [hidden], LIMIT)
    assert results.uploads
    assert results.uploads <= set(uploads) - {"u0", "u1"}
    [nothing] = store.search(
        QUESTION, store.embed(QUESTION), [hidden.model_copy(update={"first_page": 2, "last_page": 9})], LIMIT
    )
    assert not nothing.uploads


def _plan(store: VectorStore, search_filter: SearchFilter) -> list[VectorQuery]:
    return plan(QUESTION, store.embed(QUESTION), search_filter, Bm25Encoder(), LIMIT)


def _filtered(store: VectorStore, query: VectorQuery) -> list[Hit]:
    """Return the hits of the engine's own filter, with the document frequencies of all uploads of the user."""
    if query.corpus is not None:
        query = replace(query, corpus=_plan(store, SearchFilter(user_id="local"))[0].corpus)
    return store.engine.search([query])[0]


def _scores(hits: list[Hit]) -> list[float]:
    return [round(hit.score, 4) for hit in hits]
