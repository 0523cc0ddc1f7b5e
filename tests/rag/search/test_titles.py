"""Pages of tables hold few words of a question, so that their titles have to tell what they show."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from client.qdrant.store import VectorStore
from rag.ingest.chunking import chunk_pages, indexed_text
from rag.search import titles
from rag.search.retriever import Retriever
from rag.search.titles import statements_of, titles_of
from schemas import Chunk, Document, Page, Passage, Query
from tests.support.tables import each

FIGURES = "\n".join(f"Item {n} of the year under review {n * 17} {n * 13} {n * 11}" for n in range(1, 12))
PROSE = (
    "The company's cash flow, capital expenditure and balance of the year are discussed here: capital expenditure and\n"
    "cash flow rose in the year, and so did the amount of capital expenditure that the company has planned for it.\n"
    "An organ was tuned in the north, and the parish clerk has the amounts that the tuner was paid, in a table of his."
)
REPORT = [
    f"Discussion\n{PROSE}",
    f"Liquidity\n{PROSE}",
    f"Oakham Mills and Subsidiaries\nConsolidated Statements of Cash Flows\n{FIGURES}",
    f"Oakham Mills and Subsidiaries\nConsolidated Balance Sheets\n{FIGURES}",
    f"Oakham Mills and Subsidiaries\nConsolidated Statements of Earnings\n{FIGURES}",
    f"Organs of the northern parishes\n{FIGURES}",
    f"Notes\n{PROSE}",
]


def _chunks(pages: list[str], *, headings: bool = False) -> list[Chunk]:
    document = Document(upload_id="report", path="/report.pdf", name="report.pdf")
    numbered = [
        Page(number=n, label=str(n), text=text, headings=(0,) if headings else None) for n, text in enumerate(pages, 1)
    ]
    return list(chunk_pages(document, numbered, model="m"))


@pytest.fixture
def report(tmp_path: Path) -> Iterator[VectorStore]:
    store = embedded_store(tmp_path / "store", model="m", dense=None, bm25=Bm25Encoder(), owner=True)
    store.upsert(_chunks(REPORT))
    yield store
    store.close()


def _ranked(question: str, report: VectorStore) -> list[Passage]:
    return asyncio.run(Retriever(report, Bm25Encoder().terms).retrieve(Query(query=question))).ranked


def _pages(ranked: list[Passage]) -> list[int]:
    return list(dict.fromkeys(passage.chunk.page for passage in ranked))


@each(
    "question, page",
    [
        ("What was the capital expenditure of the year, by the cash flow statement?", 3),
        ("How much capital expenditure did the company have in the year?", 3),
        ("What is the working capital of the company for the year?", 4),
        ("What was the operating margin of the company in the year?", 5),
        ("Which amounts are in the table of organs of the northern parishes?", 6),
    ],
)
def test_a_table_is_found_by_its_title(question: str, page: int, report: VectorStore) -> None:
    ranked = _ranked(question, report)
    assert all(0 <= passage.score <= 1 for passage in ranked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(titles, "TITLE_WEIGHT", 0.0)
        patch.setattr(titles, "STATEMENT_WEIGHT", 0.0)
        without = _pages(_ranked(question, report))
    pages = _pages(ranked)
    assert pages.index(page) < 4
    assert pages[0] == page or page not in without or pages.index(page) < without.index(page)


@each(
    "question, words",
    [
        ("What is the FY2022 EBITDA of Oakham?", ["income"]),
        ("Is the quick ratio healthy?", ["balance"]),
        ("How did capex change?", ["flows"]),
        ("What is the ratio of operating cash flow to current liabilities?", ["balance", "flows"]),
        ("Who tuned the organ?", []),
        ("What does the assessor say of the asset-free marginal note?", ["balance"]),
        ("Wie hoch ist das Gewicht der Lampe?", []),
    ],
)
def test_a_figure_belongs_to_a_statement(question: str, words: list[str]) -> None:
    found = statements_of(question)
    assert len(found) == len(words)
    assert all(word in titles.split() for word, titles in zip(words, found, strict=True))


def test_the_first_lines_of_a_page_are_its_title_unless_they_are_text() -> None:
    pages = {c.page: c for c in _chunks([f"Oakham Mills\nConsolidated Balance Sheets\n{FIGURES}", PROSE])}
    titled, prose = pages[1], pages[2]
    assert titled.page_title == "Oakham Mills\nConsolidated Balance Sheets"
    assert indexed_text(titled).startswith("report | Oakham Mills | page 1 | Consolidated Balance Sheets\n")
    assert prose.page_title == ""


def test_a_file_that_marks_its_headings_has_these_as_titles() -> None:
    chunk = _chunks([f"Storage in winter\n{PROSE}"], headings=True)[0]
    assert chunk.page_title == ""
    assert titles_of(chunk) == ["Storage in winter"]
