"""Tables of PDFs: each figure is found beside its label and under its header, and quoted as the page has it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from rag.answer.quoted_answer import quote_passages
from rag.citations.check import build_source
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import close_readers, read_document
from rag.ingest.formats.pdf_tables import may_have_table
from rag.search.neighbours import join_chunks
from rag.search.retriever import Retriever
from schemas import Chunk, Document, Page, Passage, Query
from tests.support.pdf_tables import PITCH, TOP, Grid, draw, draw_by_columns, draw_turned, page, table_page, text_lines
from tests.support.tables import each

YEARS = Grid(
    edges=(340, 420, 500),
    above=("Consolidated statements of income", "(in millions)"),
    headers=([("Year ended December 31,", 0, 2)], [("2019", 0, 0), ("2018", 1, 1), ("2017", 2, 2)]),
    rows=(
        ("Revenue", "5,123", "4,900", "4,310"),
        ("Cost of sales", "(2,811)", "(2,640)", "(2,402)"),
        ("Gross profit", "2,312", "2,260", "1,908"),
        ("Operating expenses:",),
        ("  Research and development", "640", "601", "588"),
        ("  Selling, general and", "", "", ""),
        ("  administrative", "811", "790", "—"),
        ("Total operating expenses", "1,451", "1,391", "588"),
    ),
    dollars=True,
)
GROUPS = Grid(
    edges=(250, 310, 370, 430, 490, 550),
    above=("Table 4. Enrolment by sex",),
    headers=(
        [("2020", 0, 2), ("2021", 3, 5)],
        [("Men", 0, 0), ("Women", 1, 1), ("Total", 2, 2), ("Men", 3, 3), ("Women", 4, 4), ("Total", 5, 5)],
    ),
    rows=(
        ("North", "10", "12", "22", "11", "14", "25"),
        ("South", "7", "8", "15", "9", "9", "18"),
        ("West", "31", "29", "60", "30", "33", "63"),
    ),
)
BY_YEAR = Grid(
    edges=(260, 360),
    headers=([("Visitors", 0, 0), ("Change", 1, 1)],),
    rows=(("2017", "81,204", "4.1%"), ("2018", "84,990", "4.7%"), ("2019", "79,310", "(6.7)%")),
)
LEFT_HALF = Grid(
    edges=(190, 250),
    headers=([("2021", 0, 0), ("2020", 1, 1)],),
    rows=(("Wool", "14", "12"), ("Grain", "33", "35"), ("Timber", "9", "8")),
)
RIGHT_HALF = Grid(
    edges=(450, 510),
    headers=([("2021", 0, 0), ("2020", 1, 1)],),
    left=320,
    rows=(("Salt", "71", "70"), ("Slate", "22", "25"), ("Coal", "5", "6")),
)
BALANCE = Grid(
    edges=(420, 500),
    headers=([("December 31,", 0, 1)], [("2021", 0, 0), ("2020", 1, 1)], [("", 0, 0)]),
    rows=(
        ("Current assets:",),
        ("  Cash", "$ 17", "$ —"),
        ("  Receivables, net", "4,406", "3,218"),
        ("Property and equipment", "9,130", "8,755"),
        ("Current liabilities:",),
        ("  Accounts payable", "2,504", "2,210"),
    ),
)
UNIT_BELOW = Grid(
    edges=(340, 420, 500),
    above=("Selected figures",),
    headers=(*YEARS.headers, [("(in thousands, except members)", 0, 2)]),
    rows=(("Members", "74,762", "57,391", "44,350"), ("Net income", "122", "266", "112"), ("Fees paid", "9", "8", "7")),
)
DEVIATIONS = Grid(
    edges=(300, 380, 460, 540),
    headers=(
        [("Micro", 0, 1), ("Macro", 2, 3)],
        [("Prec.", 0, 0), ("Rec.", 1, 1), ("Prec.", 2, 2), ("Rec.", 3, 3)],
    ),
    rows=(
        ("Model A", "92.0(1.5)", "97.6(0.1)", "36.0(0.6)", "43.6(1.0)"),
        ("Model B", "85.9±2.5", "96.1±0.4", "29.0±0.0", "50.8±0.3"),
        ("Model C", "84.5(1.1)", "94.8(0.2)", "29.9(0.2)", "49.0(0.8)"),
    ),
)
NOTES = Grid(
    edges=(330, 420, 500),
    headers=([("Note", 0, 0), ("2022", 1, 1), ("2021", 2, 2)], [("$’m", 1, 1), ("$’m", 2, 2)]),
    rows=(
        ("Receipts", "", "12,416.3", "12,988.8"),
        ("Payments", "", "(11,845.2)", "(12,173.2)"),
        ("Taxes", "", "21.9", "11.6"),
    ),
)
# Words of a sentence in the other column, and above a table whose labels begin at the same place.
SENTENCE = "the keeper writes each ship into the ledger and the"
LONG = " ".join([SENTENCE] * 2)


TWO_YEARS = ([("2022", 0, 0), ("2021", 1, 1)],)


def draw_close(canvas: Canvas) -> None:
    """Draw two tables without a gap between them; the second one has one row."""
    rows = (("Wages", "641", "555"), ("Rates", "219", "141"), ("Pensions", "31", "44"))
    end = draw(canvas, Grid((420, 500), rows, TWO_YEARS))
    draw(canvas, Grid((400, 480), (("Fees", "9", "12"),), TWO_YEARS, above=("Other fees were as follows:",)), end)


def draw_balance(canvas: Canvas) -> None:
    """Draw a balance sheet with names in the middle of the table above its rows."""
    end = draw(canvas, BALANCE)
    canvas.drawString(240, end + PITCH * 7, "ASSETS")


def draw_beside(canvas: Canvas) -> None:
    """Draw a table in the right column, and sentences in the left one."""
    text_lines(canvas, [SENTENCE] * 12, top=TOP - 2)
    draw(canvas, RIGHT_HALF)


TABLES = {
    "names in the middle": (
        page(draw_balance),
        (
            "ASSETS – Current assets – Cash | December 31, 2021: $ 17 | December 31, 2020: $ —",
            "ASSETS – Property and equipment | December 31, 2021: 9,130",
            "ASSETS – Current liabilities – Accounts payable | December 31, 2021: 2,504",
        ),
    ),
    "unit below the headers": (
        table_page(UNIT_BELOW),
        ("(in thousands, except members)", "Net income | Year ended December 31, 2019: 122"),
    ),
    "deviations": (
        table_page(DEVIATIONS),
        (
            "Model A | Micro Prec.: 92.0(1.5) | Micro Rec.: 97.6(0.1) | Macro Prec.: 36.0(0.6)",
            "Model B | Micro Prec.: 85.9±2.5",
        ),
    ),
    "close to each other": (
        page(draw_close),
        ("Pensions | 2022: 31 | 2021: 44", "Other fees were as follows:\n\nFees | 2022: 9 | 2021: 12"),
    ),
    "column of notes": (
        table_page(NOTES),
        ("Payments | 2022 $’m: (11,845.2) | 2021 $’m: (12,173.2)",),
    ),
    "sentences above": (
        page(
            lambda canvas: text_lines(canvas, [LONG] * 6, top=820),
            lambda canvas: draw(
                canvas, Grid(YEARS.edges, [("the " + row[0], *row[1:]) for row in UNIT_BELOW.rows], YEARS.headers), 700
            ),
        ),
        ("the Net income | Year ended December 31, 2019: 122",),
    ),
    "sentences beside": (page(draw_beside), ("\n\nSlate | 2021: 22 | 2020: 25",)),
    "years": (
        table_page(YEARS),
        (
            "Revenue | Year ended December 31, 2019: $ 5,123 | Year ended December 31, 2018: $ 4,900",
            "Cost of sales | Year ended December 31, 2019: (2,811)",
            "Operating expenses – Research and development | Year ended December 31, 2019: 640",
            "Operating expenses – Selling, general and administrative | Year ended December 31, 2019: 811",
            "Total operating expenses | Year ended December 31, 2019: $ 1,451",
        ),
    ),
    "groups of columns": (
        table_page(GROUPS),
        ("North | 2020 Men: 10 | 2020 Women: 12 | 2020 Total: 22 | 2021 Men: 11 | 2021 Women: 14 | 2021 Total: 25",),
    ),
    "rows named by year": (table_page(BY_YEAR), ("2018 | Visitors: 84,990 | Change: 4.7%",)),
    "two beside each other": (
        page(lambda canvas: draw(canvas, LEFT_HALF), lambda canvas: draw(canvas, RIGHT_HALF)),
        ("Wool | 2021: 14 | 2020: 12", "Timber | 2021: 9 | 2020: 8", "Salt | 2021: 71 | 2020: 70"),
    ),
    "two below each other": (
        table_page(BY_YEAR, GROUPS),
        ("2019 | Visitors: 79,310 | Change: (6.7)%", "South | 2020 Men: 7"),
    ),
    "drawn column by column": (
        page(lambda canvas: draw_by_columns(canvas, GROUPS)),
        ("West | 2020 Men: 31 | 2020 Women: 29 | 2020 Total: 60",),
    ),
    "turned page": (
        page(lambda canvas: draw_turned(canvas, GROUPS)),
        ("South | 2020 Men: 7 | 2020 Women: 8",),
    ),
}

PROSE = (
    "In 1987 the harbour had 14 cranes, and by 1995 it had 22 of them in",
    "use on 3 quays. The tide of 1999 took 2, and the last was sold in",
    "2004 for a sum of 12,500 crowns. Two keepers stayed until March of",
    "2009. The register of that year lists 41 boats, of which 17 were in",
    "repair. None of the 9 pilots was paid after 2011.",
)
NO_TABLES = {
    "prose in columns": page(
        lambda canvas: text_lines(canvas, PROSE * 4), lambda canvas: text_lines(canvas, PROSE * 4, left=330)
    ),
    "contents": page(
        lambda canvas: draw(
            canvas,
            Grid(
                edges=(500,), rows=[(name, str(3 + 4 * n)) for n, name in enumerate(("Scope", "Parts", "Use", "Care"))]
            ),
        )
    ),
    "contents with leaders": page(
        lambda canvas: text_lines(canvas, [f"{n}. Chapter of things {'. ' * (30 + n)} {n * 9}" for n in range(1, 9)])
    ),
    "form": page(
        lambda canvas: text_lines(canvas, ("Name: ________  Date: ________", "Street: _______  No.: ___", "Town: ____"))
    ),
    "numbered list": page(lambda canvas: text_lines(canvas, [f"{n}.      Tighten screw {n + 3}" for n in range(1, 9)])),
}


@pytest.fixture(autouse=True, scope="module")
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


def read(path: Path, data: bytes) -> tuple[Page, list[Chunk]]:
    path.write_bytes(data)
    pages = list(read_document(path).pages)
    document = Document(upload_id="u", path="", name="report.pdf")
    return pages[0], list(chunk_pages(document, pages, model="m"))


@each("data, lines", TABLES)
def test_each_figure_stands_beside_its_label_and_header(data: bytes, lines: tuple[str, ...], tmp_path: Path) -> None:
    _, chunks = read(tmp_path / "table.pdf", data)
    text = "\n".join(chunk.text for chunk in chunks)
    assert [line for line in lines if line not in text] == [], text


@each("data", {name: (data,) for name, data in NO_TABLES.items()})
def test_other_pages_have_no_tables(data: tuple[bytes], tmp_path: Path) -> None:
    found, chunks = read(tmp_path / "page.pdf", data[0])
    assert found.tables == ()
    assert all(chunk.text == found.text[chunk.start : chunk.end] for chunk in chunks)


@each("data, lines", TABLES)
def test_a_quote_of_a_table_is_a_part_of_the_page(data: bytes, lines: tuple[str, ...], tmp_path: Path) -> None:
    found, chunks = read(tmp_path / "table.pdf", data)
    for line in lines:
        chunk = next(one for one in chunks if line in one.text)
        start = chunk.text.index(line)
        source = build_source(1, Passage(chunk, 1.0), start, start + len(line))
        assert source.quote == found.text[source.start : source.end]
        assert line.rpartition(" ")[2] in source.quote
    for chunk in chunks:
        for start in range(0, len(chunk.text), 7):
            for end in range(start + 1, len(chunk.text) + 1, 29):
                source = build_source(1, Passage(chunk, 1.0), start, end)
                assert source.quote == found.text[source.start : source.end]


def test_rows_that_follow_each_other_are_quoted_together(tmp_path: Path) -> None:
    rows = [(f"Station {n}", f"{n * 37 % 1000}.5", f"{n}.0", f"{n}.5") for n in range(1, 9)]
    found, chunks = read(
        tmp_path / "rows.pdf", page(lambda canvas: draw(canvas, Grid(YEARS.edges, rows, YEARS.headers)))
    )
    chunk = next(one for one in chunks if one.places)
    start, end = chunk.text.index("Station 2 |"), chunk.text.index("Station 7 |")
    source = build_source(1, Passage(chunk, 1.0), start, end)
    assert [f"Station {n}" in source.quote for n in range(1, 9)] == [1 < n < 7 for n in range(1, 9)]
    assert source.quote == found.text[source.start : source.end]


@pytest.mark.parametrize(
    ("lines", "looked_at"),
    [
        (["The cap is $2000", "AUDIENCE: Booo —", "and they —", "I will —", "Page 9"], False),  # a speech
        (["Rent 12", "Wages 4,900", "Loans — —"], True),
        (["Loans 12 —", "Goodwill — —", "Cash — (3)"], True),
        (["Rent 12", *["words"] * 14, "Wages 13", *["words"] * 14, "Loans 14"], False),
        (["Rent and", "rates 12", "Wages and", "salaries and", "fees 13", "Loans to", "others 14"], True),
        (["Rent 12 ", "Wages 13 ", "Loans 14 ", "Notes"], True),
    ],
)
def test_a_page_is_searched_for_tables_if_lines_near_each_other_end_in_figures(
    lines: list[str], looked_at: bool
) -> None:
    """A dash behind a word is punctuation: the look at the words of a page costs as much as reading it."""
    assert may_have_table("\r\n".join(lines)) is looked_at


def test_parts_of_a_long_table_repeat_caption_and_unit_and_join(tmp_path: Path) -> None:
    rows = [(f"Station {n}", f"{n * 37 % 1000}.5", f"{n * 53 % 1000}.5", f"{n}.0") for n in range(1, 41)]
    data = page(
        lambda canvas: text_lines(canvas, PROSE[:3], top=820),
        lambda canvas: draw(canvas, Grid(YEARS.edges, rows, YEARS.headers, YEARS.above)),
    )
    found, chunks = read(tmp_path / "long.pdf", data)
    parts = [chunk for chunk in chunks if chunk.places]
    assert len(parts) > 2
    assert all("(in millions)" in chunk.text and "income" in chunk.text for chunk in parts)
    assert sum(chunk.text.count("Station") for chunk in parts) == len(rows)
    assert all("Station" not in chunk.text for chunk in chunks if not chunk.places)  # said once

    whole = chunks[0]
    for chunk in (*chunks[1:], *chunks[1:]):
        whole = join_chunks(whole, chunk) or pytest.fail(f"chunk {chunk.index} does not join")
    assert whole.text.count("Station 17 |") == 1
    for words in ("harbour had 14", "Station 17 |", "Station 40 |"):
        start = whole.text.index(words)
        source = build_source(1, Passage(whole, 1.0), start, start + len(words))
        assert source.quote == found.text[source.start : source.end]
        assert words.removesuffix(" |") in source.quote


@each(
    "question, figures",
    {
        "year": ("What was gross profit in 2018?", ("2,260", "(in millions)", "Consolidated statements of income")),
        "group": ("How many women were enrolled in the South in 2021?", ("2021 Women: 9", "Enrolment by sex")),
        "row named by year": ("How many visitors came in 2018?", ("84,990",)),
        "by another name": ("How much COGS was there in 2018?", ("Cost of", "(in millions)")),
    },
)
def test_a_question_finds_the_row_and_the_offline_answer_holds_the_figure(
    question: str, figures: tuple[str, ...], tmp_path: Path
) -> None:
    data = page(
        lambda canvas: text_lines(canvas, PROSE[:4], top=820),
        lambda canvas: draw(canvas, YEARS),
        lambda canvas: draw(canvas, GROUPS, 500),
        lambda canvas: draw(canvas, BY_YEAR, 300),
    )
    found, chunks = read(tmp_path / "report.pdf", data)
    bm25 = Bm25Encoder()
    store = embedded_store(tmp_path / uuid.uuid4().hex, model="m", dense=None, bm25=bm25)
    store.upsert(chunks)
    retrieved = asyncio.run(Retriever(store, bm25.terms).retrieve(Query(query=question)))
    store.close()
    answer = quote_passages(question, retrieved, bm25.terms)
    first = answer.text.split("\n\n")[1]
    assert [figure for figure in figures if figure not in first] == [], first
    assert answer.sources[0].quote == found.text[answer.sources[0].start : answer.sources[0].end]
