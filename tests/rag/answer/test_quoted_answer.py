"""Answers without a model decline for a name or a number that stands nowhere, and not for the form of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from rag.answer.quoted_answer import quote_passages
from rag.search.relevance import QueryTerms, content_terms
from rag.search.retriever import RetrievalResult, Retriever
from schemas import Answer, Chunk, Passage, Place, Query, Source
from tests.rag.search.test_retriever import REPORTS, chunks_of
from tests.support.tables import each


@each(
    "question, answered",
    [
        ("What was the net revenue of Fennwick for FY2021?", True),
        ("What was the net revenue of Fennwick for FY2021 (in USD millions)?", True),
        ("What was the net revenue for FY2021? Answer in USD millions, format: integer.", True),
        ("As of FY 2021, what was the net revenue of Fennwick?", True),
        ("What was the net revenue of Fennwick in USD million?", True),
        ("What was the EBITDA, that is net revenue, of Fennwick?", True),
        ("What was the net revenue (NR) of Fennwick? NR is defined as: 365 * (sales of FY1987 + COGS).", True),
        ("What was the net revenue of Fennwick in Oslo?", False),
        ("What was the net revenue of Fennwick for FY1987?", False),
    ],
)
def test_a_unit_is_no_name_that_must_be_found(question: str, answered: bool, tmp_path: Path) -> None:
    name = "Fennwick_2021_annual_report.pdf"
    store = embedded_store(tmp_path / "store", model="m", dense=None, bm25=Bm25Encoder(), owner=True)
    try:
        store.upsert(chunks_of(name, REPORTS[name]))
        retriever = Retriever(store, Bm25Encoder().terms)
        found = asyncio.run(retriever.retrieve(Query(query=question)))
        assert quote_passages(question, found, retriever.terms).answered is answered
    finally:
        store.close()


STATEMENT = [
    *(f"Wexcombe Ltd. Shareholders' Equity – Share of class {n}" for n in range(9)),
    "Merchandise inventories", "Total assets", "Cost of revenue – Total", "Purchases of equipment",
]  # fmt: skip


def quoted(question: str, lines: Sequence[str], *, prose: str = "") -> tuple[Source, str]:
    """Return the source of an answer from the lines of a table, and the text of the page."""
    answer, text = answered(question, lines, prose=prose)
    [source] = answer.sources
    return source, text


def answered(question: str, lines: Sequence[str], *, prose: str = "") -> tuple[Answer, str]:
    """Return the answer from a page with some prose and a table below it, and the text of the page."""
    terms = Bm25Encoder().terms
    above = f"{prose}\n\n" if prose else ""
    at = [len(above) + sum(len(line) + 2 for line in lines[:n]) for n in range(len(lines))]
    rows = tuple(Place(at=a, start=a, original=f"{line}\n\n") for a, line in zip(at, lines, strict=True))
    places = (*([Place(at=0, start=0)] if prose else []), *rows)
    text = above + "\n\n".join(lines)
    chunk = Chunk(
        id="1", upload_id="u", user_id="local", name="WEXCOMBE_2019_10K.pdf", page=1, page_label="1", index=0,
        start=0, end=len(text), text=text, places=places,
    )  # fmt: skip
    target = QueryTerms(content_terms(question, terms), {})
    found = RetrievalResult([Passage(chunk, 1.0)], [Passage(chunk, 1.0)], True, target, "none", {})
    return quote_passages(question, found, terms), text


@each(
    "question, row",
    [
        ("What is the year end FY2019 total amount of inventories for Wexcombe?", "Merchandise inventories"),
        ("How much total assets did Wexcombe have at the end of FY2019?", "Total assets"),
        ("What is the FY2019 COGS for Wexcombe?", "Cost of revenue – Total"),
        ("What was the capex of Wexcombe in 2019?", "Purchases of equipment"),
    ],
)
def test_the_row_is_marked_that_the_question_asks_for(question: str, row: str) -> None:
    """The name of the document stands in many rows, and the row may have another name than the question says."""
    lines = [f"{label} | 2019: {n},1 | 2018: {n},2" for n, label in enumerate(STATEMENT)]
    source, text = quoted(question, lines)
    assert source.highlight is not None
    assert source.quote[slice(*source.highlight)].startswith(row)
    assert len(source.quote.splitlines()) > 1
    assert source.quote == text[source.start : source.end]


@each(
    "lines",
    {
        "the caption alone has the words": ("Mooring fees", "Up to 8 m | Summer: 100", "Up to 12 m | Summer: 150"),
        "rows of one value": ("Mooring: 100", "Fees: 12", "Waste: 3"),
    },
)
def test_a_table_is_quoted_whose_rows_do_not_fit(lines: tuple[str, ...]) -> None:
    source, text = quoted("What are the mooring fees?", lines)
    assert source.quote == text[source.start : source.end] == "\n\n".join(lines)


FEES = ("Up to 8 m | Summer: 100", "Yacht club | Summer: 250", "Up to 12 m | Summer: 150")


def test_prose_above_a_table_stands_beside_its_rows() -> None:
    """The words of the question stand in the sentence that introduces the table, and the figure in a row."""
    prose = "Much was written of the harbour. The following table has the mooring fees by length of the boat:"
    answer, text = answered("What is the total mooring fee for boats of the yacht club?", FEES, prose=prose)
    rows, _ = answer.sources
    assert "Yacht club | Summer: 250" in rows.quote
    assert rows.highlight is not None
    assert rows.quote[slice(*rows.highlight)] == "Yacht club | Summer: 250"
    assert all(source.quote == text[source.start : source.end] for source in answer.sources)
    first = answer.text.split("\n\n")[1]
    assert first.startswith("“The following table has the mooring fees by length of the boat: … ")


@each(
    "title, head",
    {
        "a group": (("Members",), "Mooring fees … Members … "),
        "another table": (("Fees of members", "in crowns"), "Fees of members in crowns … "),
    },
)
def test_a_row_is_read_with_the_caption_of_its_table_and_the_title_of_its_group(
    title: tuple[str, ...], head: str
) -> None:
    long = [f"Berth {n} | Summer: {n}00 | Winter: {n}0" for n in range(1, 25)]
    lines = ["Mooring fees", *long, *title, *(f"Pontoon {n} | Summer: {n}50 | Winter: {n}5" for n in range(1, 25))]
    answer, _ = answered("What is the fee of pontoon 19 for members?", lines)
    assert answer.text.split("\n\n")[1].replace(" … ", " ").startswith(f"“{head}".replace(" … ", " "))
    assert "Pontoon 19 | Summer: 1950" in answer.sources[0].quote
