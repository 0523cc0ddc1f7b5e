"""Hybrid search: one contract for both engines, passages within a token budget, joined chunks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from qdrant_client import QdrantClient

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import EmbeddedEngine, embedded_store
from client.qdrant.points import DENSE_VECTOR, collection_name
from client.qdrant.server import server_store
from client.qdrant.store import VectorStore
from errors import NothingIndexed
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import read_document
from rag.search.fusion import SearchResults, fuse
from rag.search.neighbours import join_chunks
from rag.search.retriever import Retriever
from rag.text.normalize import estimate_tokens
from schemas import Chunk, Document, Page, Query, SearchFilter
from tests.client.qdrant.test_stores import WordEmbeddings, search
from tests.support.processes import ROOT
from tests.support.real_qdrant import ENGINES, client_of

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")

HANDBOOK = ROOT / "samples" / "handbook.pdf"
MINE = SearchFilter(user_id="local")
REPORTS = {
    "Fennwick_2021_annual_report.pdf": ["Fennwick annual report 2021", "Net revenue for FY2021 was 412 million."],
    "Fennwick_2022_annual_report.pdf": ["Fennwick annual report 2022", "Net revenue for FY2022 was 455 million."],
    "Oakham_2022_annual_report.pdf": ["Oakham annual report 2022", "Net revenue for FY2022 was 93 million."],
}
MILLS = [
    "Form for the year, by A. Ruddock",
    "Risks: rain, rust and rats.",
    "Net revenue was 93 million.",
    "The flour is milled of wheat of the valley. Flour and wheat are stored in silos.",
]
QUESTIONS = [
    "How long does the battery last?",
    "What was the net revenue of Oakham in fiscal 2022?",
    "red light",
    "zzz",
]

Open = Callable[[str], VectorStore]


def chunks_of(
    name: str, pages: list[str], *, upload: str | None = None, user: str = "local", model: str = "m"
) -> list[Chunk]:
    document = Document(upload_id=upload or name, path=f"/{name}", name=name, user_id=user)
    numbered = [Page(number=n, label=str(n), text=text) for n, text in enumerate(pages, start=1)]
    return list(chunk_pages(document, numbered, model=model))


def all_chunks(model: str = "m") -> list[Chunk]:
    """Return the chunks of the handbook and of the three reports."""
    document = Document(upload_id="handbook", path=str(HANDBOOK), name="handbook.pdf")
    chunks = list(chunk_pages(document, read_document(HANDBOOK).pages, model=model))
    return chunks + [chunk for name, pages in REPORTS.items() for chunk in chunks_of(name, pages, model=model)]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    """Open a hybrid store of the named engine, closed at the end."""
    opened: list[VectorStore] = []

    def open_(engine: str) -> VectorStore:
        model = f"test-{uuid.uuid4().hex}"
        if engine == "embedded":
            store: VectorStore = embedded_store(
                tmp_path / model, model=model, dense=WordEmbeddings(), bm25=Bm25Encoder()
            )
        else:
            store = server_store(client_of(engine), model=model, dense=WordEmbeddings(), bm25=Bm25Encoder())
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, open_store: Open) -> VectorStore:
    """A hybrid store of each engine, with the handbook and three reports."""
    opened = open_store(request.param)
    opened.upsert(all_chunks(opened.model))
    return opened


def ranked_pages(results: SearchResults, question: str) -> list[tuple[str, int, float]]:
    return [(p.chunk.name, p.chunk.page, round(p.score, 3)) for p in fuse(question, results, Bm25Encoder().terms)]


@pytest.mark.parametrize(
    "search_filter",
    [
        MINE,
        SearchFilter(user_id="local", names=("handbook.pdf",)),
        SearchFilter(user_id="local", first_page=2, last_page=5),
        SearchFilter(user_id="eve"),
    ],
    ids=["all", "name", "pages", "another user"],
)
def test_all_engines_return_the_same_ranking_and_idf(open_store: Open, search_filter: SearchFilter) -> None:
    stores = [open_store(engine) for engine in ENGINES]
    for store in stores:
        store.upsert(all_chunks())
    for question in QUESTIONS:
        results = [store.search(question, store.embed(question), [search_filter], 50)[0] for store in stores]
        expected = results[0]
        for other in results[1:]:
            assert {t: round(w, 3) for t, w in other.idf.items()} == {t: round(w, 3) for t, w in expected.idf.items()}
            assert [(p.chunk.name, round(p.score, 3)) for p in other.openings] == [
                (p.chunk.name, round(p.score, 3)) for p in expected.openings
            ]
            assert ranked_pages(other, question) == ranked_pages(expected, question)


class TestContract:
    def test_filters_hold_in_every_search(self, store: VectorStore) -> None:
        search_filter = SearchFilter(user_id="local", names=("handbook.pdf",), first_page=5, last_page=6)
        question = "How long does the battery of the lamp last at medium brightness?"
        [results] = store.search(question, store.embed(question), [search_filter], 50)
        assert results.dense is not None
        for passages in (results.sparse, results.dense, results.pages):
            assert passages
            assert all(p.chunk.name == "handbook.pdf" and 5 <= p.chunk.page <= 6 for p in passages)

    def test_the_document_named_in_the_question_ranks_first(self, store: VectorStore) -> None:
        best = search(store, "What was the net revenue of Oakham in fiscal year 2022?", MINE, 3)[0].chunk
        assert (best.name, best.page) == ("Oakham_2022_annual_report.pdf", 2)
        best = search(store, "Fennwick revenue 2021", MINE, 3)[0].chunk
        assert (best.name, best.page) == ("Fennwick_2021_annual_report.pdf", 2)

    def test_idf_is_that_of_what_is_searched(self, store: VectorStore) -> None:
        [oakham] = Bm25Encoder().terms("Oakham")
        only = SearchFilter(user_id="local", names=("Oakham_2022_annual_report.pdf",))
        page = only.model_copy(update={"first_page": 2, "last_page": 2})
        everywhere, inside, on_page = store.search("Oakham revenue", None, [MINE, only, page], 10)
        assert inside.idf[oakham] < 0.5 < everywhere.idf[oakham]  # the name is in every chunk of its document
        assert on_page.idf == pytest.approx(inside.idf)
        assert on_page.sparse[0].score == pytest.approx(inside.sparse[0].score)

    def test_pages_and_documents_that_the_question_names_come_first(self, store: VectorStore) -> None:
        store.upsert(chunks_of("HAZELGRAINMILLS_2022_10K.pdf", MILLS, model=store.model))
        retriever = Retriever(store, Bm25Encoder().terms)

        def pages(question: str, k: int = 3) -> list[tuple[str, int]]:
            found = asyncio.run(retriever.retrieve(Query(query=question, k=k))).passages
            return [(passage.chunk.name, passage.chunk.page) for passage in found]

        mills = "HAZELGRAINMILLS_2022_10K.pdf"
        assert pages("What was the net revenue of Hazel Grain Mills?")[0] == (mills, 3)
        assert pages("What does page 2 say of the net revenue of Hazel Grain Mills?")[0] == (mills, 2)
        assert pages("What is on page 2 of Hazel Grain Mills?")[0] == (mills, 2)
        assert pages("Who wrote of the flour and the wheat?", k=2) == [(mills, 4), (mills, 1)]
        assert (mills, 1) not in pages("How much flour and wheat is there?", k=2)

    def test_what_shows_the_table_that_a_question_names_comes_first(self, store: VectorStore) -> None:
        pages = ["Table 4 and its fees are of the wheat.", "Prose.", "Table 4: Mooring\nSmall 3", "Table 5. Fees"]
        for name in ("Aldhill.pdf", "Bexley.pdf"):
            store.upsert(chunks_of(name, pages, model=store.model))
        retriever = Retriever(store, Bm25Encoder().terms)

        def first(question: str) -> tuple[str, int]:
            found = asyncio.run(retriever.retrieve(Query(query=question, k=3))).passages[0].chunk
            return found.name, found.page

        assert first("Which fees for wheat are in Table 4 of Aldhill?") == ("Aldhill.pdf", 3)
        assert first("Which fees for wheat are in Table 5 of Bexley?") == ("Bexley.pdf", 4)
        assert first("Which fees for wheat are in Table 9 of Bexley?") == ("Bexley.pdf", 1)

    def test_a_page_is_found_by_the_number_printed_on_it(self, store: VectorStore) -> None:
        pages = ["Cover of the wheat", "Contents of the wheat", *(f"All of the wheat {n}.\n{n}" for n in range(1, 8))]
        store.upsert(chunks_of("Aldhill.pdf", pages, model=store.model))
        retriever = Retriever(store, Bm25Encoder().terms)
        question = Query(query="What is on page 4 of Aldhill, of the wheat?", k=2)
        found = asyncio.run(retriever.retrieve(question)).passages
        assert {(passage.chunk.page, passage.chunk.page_label) for passage in found} == {(4, "2"), (6, "4")}

    def test_a_found_chunk_equals_the_stored_chunk(self, store: VectorStore) -> None:
        stored = {chunk.id: chunk.model_dump() for chunk in all_chunks(store.model)}
        for passage in search(store, "battery lamp revenue report", MINE, 50):
            assert passage.chunk.model_dump() == stored[passage.chunk.id]

    def test_neighbours_are_adjacent_and_of_the_same_upload(self, store: VectorStore) -> None:
        best = search(
            store, "How long does the battery last?", SearchFilter(user_id="local", names=("handbook.pdf",)), 1
        )[0].chunk
        neighbours = store.neighbours([best])
        assert {(c.upload_id, c.index) for c in neighbours} == {
            ("handbook", best.index - 1),
            ("handbook", best.index + 1),
        }
        assert store.neighbours([]) == []
        assert store.neighbours([best.model_copy(update={"user_id": "eve"})]) == []

    def test_a_rare_term_has_a_higher_idf_than_a_common_one_and_an_unknown_term_has_none(
        self, store: VectorStore
    ) -> None:
        terms = Bm25Encoder().terms
        [results] = store.search("lamp flicker zzz", None, [MINE], 10)
        [lamp], [flicker], [unknown] = terms("lamp"), terms("flicker"), terms("zzz")
        assert unknown not in results.idf
        assert results.idf[flicker] > results.idf[lamp] > 0

    def test_searching_an_empty_store_raises(self, open_store: Open, store: VectorStore) -> None:
        empty = open_store("embedded" if isinstance(store.engine, EmbeddedEngine) else "langchain")
        for question in ("museum", "the of"):
            with pytest.raises(NothingIndexed):
                empty.search(question, None, [MINE], 5)


def test_langchain_reads_the_collection() -> None:
    client, dense = QdrantClient(":memory:"), WordEmbeddings()
    store = server_store(client, model="m", dense=dense, bm25=Bm25Encoder())
    store.upsert(all_chunks())
    langchain = QdrantVectorStore(
        client,
        collection_name("m"),
        embedding=cast("Embeddings", dense),
        retrieval_mode=RetrievalMode.DENSE,
        vector_name=DENSE_VECTOR,
        validate_collection_config=False,
    )
    [document] = langchain.similarity_search("lumens beams red light button", k=1)
    assert document.metadata["name"] == "handbook.pdf"
    assert document.metadata["page"] == 6
    assert "480 lumens" in " ".join(document.page_content.split())
    client.close()


LONG = " ".join(f"Sentence {n} speaks of the {word}." for n, word in enumerate(("harbour", "lamp", "tide") * 40))


def test_the_model_sees_whole_passages_within_its_budget(open_store: Open) -> None:
    store = open_store("embedded")
    chunks = chunks_of("long.pdf", [LONG, "A page on whales and their songs."])
    store.upsert(chunks)
    terms = Bm25Encoder().terms
    for budget in (200, 600, 5_000):
        retriever = Retriever(store, terms, context_tokens=budget)
        passages = asyncio.run(retriever.retrieve(Query(query="Sentence 60 of the harbour", k=3))).passages
        for passage in passages:
            text = LONG if passage.chunk.page == 1 else "A page on whales and their songs."
            assert text[passage.chunk.start : passage.chunk.end] == passage.chunk.text
        assert len({passage.chunk.page for passage in passages}) == len(passages)
        used = sum(estimate_tokens(passage.chunk.text) for passage in passages)
        assert used <= max(budget, *(estimate_tokens(chunk.text) for chunk in chunks))
    assert estimate_tokens(passages[0].chunk.text) > 400


def test_chunks_that_do_not_touch_are_not_joined() -> None:
    first, _, third, *_ = chunks_of("long.pdf", [LONG])
    assert join_chunks(first, third) is None
    other = third.model_copy(update={"page": 2, "start": 0, "end": 5, "text": "Other"})
    assert join_chunks(first, other) is None
    assert join_chunks(first, first) == first
