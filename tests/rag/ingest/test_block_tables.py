"""Long tables of documents: each chunk says what its rows are, and quotes the page as it is."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rag.citations.check import build_source
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import close_readers, read_document
from rag.ingest.formats.tables import table_blocks
from rag.ingest.media_types import detect
from rag.ingest.table_chunks import TABLE_TOKENS
from rag.search.neighbours import join_chunks
from rag.text.normalize import estimate_tokens
from schemas import Chunk, Document, Page, Passage
from tests.support.corpus.folders import epub, mail
from tests.support.corpus.office import slide_with_table, xlsx
from tests.support.corpus.pages import page
from tests.support.corpus.word import docx, p, r, table
from tests.support.tables import each

CAPTION, UNIT = "Table 7: Dues of the berths", "(in thousands of crowns)"
HEADER = ("Berth", "Owner", "Dues")
ROWS = [(f"Quay {n}", f"the {n}th trading company of the old harbour", f"{n * 37 % 1000} paid") for n in range(1, 301)]
PLAIN = [(berth, owner) for berth, owner, _ in ROWS]


@pytest.fixture(autouse=True, scope="module")
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


def read(folder: Path, name: str, data: bytes) -> tuple[list[Page], list[Chunk]]:
    path = folder / name
    path.write_bytes(data)
    pages = list(read_document(path, media_type=detect(io.BytesIO(data), name)).pages)
    return pages, list(chunk_pages(Document(upload_id="u", path="", name=name), pages, model="m"))


def html_rows(*rows: tuple[str, ...], tag: str = "td") -> str:
    return "".join(f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in row)}</tr>" for row in rows)


def markdown(*above: str) -> bytes:
    rows = [HEADER, ("---",) * 3, *ROWS]
    return "\n\n".join(["# Harbour", *above, "\n".join(f"| {' | '.join(row)} |" for row in rows), "Closing."]).encode()


INSIDE = html_rows(HEADER, tag="th") + html_rows(*ROWS)
BODY = f"<h1>Harbour</h1><p>{CAPTION}</p><p>{UNIT}</p><table>{INSIDE}</table><p>Closing words.</p>"
BELOW = f"<figcaption>{CAPTION} {UNIT}</figcaption>"
WORD = f"{p('Harbour', style='Titel')}{p(CAPTION)}{p(UNIT)}"
FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "Markdown": ("a.md", lambda: markdown(CAPTION, UNIT)),
    "HTML": ("a.html", page(BODY)),
    "HTML with a caption": (
        "b.html",
        page(f"<p>Prose.</p><table><caption>{CAPTION} {UNIT}</caption>{INSIDE}</table>"),
    ),
    "HTML with a title row": (
        "c.html",
        page(f"<p>Prose.</p><table><tr><th colspan=3>{CAPTION} {UNIT}</th></tr>{INSIDE}</table>"),
    ),
    "HTML with the caption below": (
        "d.html",
        page(f"<h1>Harbour</h1><figure><table>{INSIDE}</table>{BELOW}</figure>"),
    ),
    "DOCX": ("a.docx", docx(WORD + table(HEADER, *ROWS, header=True))),
    "DOCX with bold headers": ("b.docx", docx(WORD + table(tuple(p(r(one, "<w:b/>")) for one in HEADER), *ROWS))),
    "EPUB": ("a.epub", lambda: epub(("Dues", BODY))),
    "mail": ("a.eml", lambda: mail(html=BODY)),
    "slides": ("a.pptx", lambda: slide_with_table(f"{CAPTION} {UNIT}", HEADER, *ROWS)),
    "workbook": ("a.xlsx", xlsx({"Dues": [(CAPTION,), (UNIT,), (), HEADER, *ROWS]})),
}


def says(chunk: Chunk) -> str:
    return f"{chunk.section}\n{chunk.text}"


@each("name, make", FILES)
def test_each_chunk_of_a_long_table_has_caption_unit_and_header(
    name: str, make: Callable[[], bytes], tmp_path: Path
) -> None:
    pages, chunks = read(tmp_path, name, make())
    parts = [chunk for chunk in chunks if "Quay " in chunk.text]
    assert len(parts) > 10
    lines = [line for chunk in parts for line in chunk.text.splitlines() if "Quay " in line]
    expected = [f"Berth: {berth} | Owner: {owner} | Dues: {dues}" for berth, owner, dues in ROWS]
    assert lines == expected
    assert [chunk.index for chunk in parts if not (CAPTION in says(chunk) and UNIT in says(chunk))] == []
    assert all(estimate_tokens(chunk.text) <= TABLE_TOKENS + 50 for chunk in parts)
    texts = {one.number: one.text for one in pages}
    for chunk in parts:
        for start in range(0, len(chunk.text), 61):
            source = build_source(1, Passage(chunk, 1.0), start, min(len(chunk.text), start + 150))
            assert source.quote == texts[chunk.page][source.start : source.end]
    for chunk, after in pairwise(chunks):
        if chunk.page == after.page:
            joined = join_chunks(chunk, after)
            assert joined is not None
            assert [
                words for one in (chunk, after) for words in one.text.splitlines() if words not in joined.text
            ] == []


def test_a_row_is_quoted_alone_with_its_line_in_the_file(tmp_path: Path) -> None:
    pages, chunks = read(tmp_path, "dues.md", markdown(CAPTION, UNIT))
    row = "Berth: Quay 150 | Owner: the 150th trading company of the old harbour | Dues: 550 paid"
    chunk = next(chunk for chunk in chunks if row in chunk.text)
    start = chunk.text.index(row)
    source = build_source(1, Passage(chunk, 1.0), start, start + len(row))
    assert source.quote == row
    assert source.lines == (158, 158)  # three lines above the table, two of the header
    assert pages[chunk.page - 1].text[source.start : source.end] == row


def test_code_beside_a_long_table_keeps_its_lines(tmp_path: Path) -> None:
    code = "\n".join(f"run step {n}" for n in range(1, 8))
    data = markdown(CAPTION, UNIT) + f"\n\n```\n{code}\n```\n".encode()
    _, chunks = read(tmp_path, "dues.md", data)
    first = 1 + data.decode()[: data.decode().index("run step 1")].count("\n")
    last = next(chunk for chunk in chunks if "run step 5" in chunk.text)
    joined = join_chunks(next(chunk for chunk in chunks if "Quay 300" in chunk.text), last)
    assert joined is not None
    for chunk in (last, joined):
        start = chunk.text.index("run step 5")
        source = build_source(1, Passage(chunk, 1.0), start, start + len("run step 5"))
        assert (source.quote, source.lines) == ("run step 5", (first + 4, first + 4))


def test_a_table_whose_header_nothing_marks_repeats_its_first_row(tmp_path: Path) -> None:
    files = {
        "a.docx": docx(table(("Berth", "Owner"), *PLAIN))(),
        "a.html": page(f"<table>{html_rows(('Berth', 'Owner'), *PLAIN)}</table>")(),
    }
    for name, data in files.items():
        _, chunks = read(tmp_path, name, data)
        assert len(chunks) > 10
        assert all("Columns: Berth; Owner" in chunk.text for chunk in chunks), name


def test_rows_stand_below_the_title_of_their_group(tmp_path: Path) -> None:
    groups = {
        name: [(f"{name} {n}", f"a berth of the company number {n}", "open") for n in range(60)] for name in "NESW"
    }
    rows = "".join(f"<tr><td colspan=3>Side {name}</td></tr>{html_rows(*rows)}" for name, rows in groups.items())
    _, chunks = read(tmp_path, "a.html", page(f"<h1>Berths</h1><table>{html_rows(HEADER, tag='th')}{rows}</table>")())
    title, seen = "", 0
    for chunk in chunks:
        for line in chunk.text.splitlines():
            title = line if line.startswith("Side ") else title
            if line.startswith("Berth: "):
                assert line.startswith(f"Berth: {title[-1]} "), (chunk.index, line)
                assert title in chunk.text
                seen += 1
    assert seen == 240


def test_a_small_table_stays_with_its_caption_in_one_chunk(tmp_path: Path) -> None:
    prose = "".join(f"<p>{'The keeper writes the log of the tide each morning. ' * 4}</p>" for _ in range(4))
    rows = html_rows(HEADER, tag="th") + html_rows(*ROWS[:9])
    for lines in range(1, 60, 4):  # the table begins anywhere in a chunk
        body = f"{prose}<p>{'It rained. ' * lines}</p><p>{CAPTION}</p><p>{UNIT}</p><table>{rows}</table>"
        pages, chunks = read(tmp_path, "a.html", page(body)())
        [chunk] = [chunk for chunk in chunks if "Quay 9 " in chunk.text]
        assert CAPTION in chunk.text
        assert "Berth: Quay 1 |" in chunk.text
        assert chunk.text == pages[0].text[chunk.start : chunk.end]


def test_long_cells_are_read_below_the_other_values_of_their_row(tmp_path: Path) -> None:
    long = [f"Paragraph {n} of the answer. " + "The lamp has to burn in all weathers. " * 12 for n in range(8)]
    header = ("No.", "Requirement", "Answer")
    rows = [(f"R-{n}", f"Lamp {n}", "".join(p(f"R-{n}: {text}") for text in long)) for n in range(3)]
    html = [(*row[:2], "".join(f"<p>{row[0]}: {text}</p>" for text in long)) for row in rows]
    files = {
        "a.docx": docx(table(header, *rows, header=True))(),
        "a.html": page(f"<table>{html_rows(header, tag='th')}{html_rows(*html)}</table>")(),
    }
    for name, data in files.items():
        pages, chunks = read(tmp_path, name, data)
        assert "Answer: R-1: Paragraph 0" in pages[0].text, name
        for chunk in chunks:
            for number in range(3):
                if f"R-{number}: " in chunk.text:
                    assert f"No.: R-{number} | Requirement: Lamp {number}" in chunk.text, (name, chunk.text)


@each(
    "rows, header_rows, lines",
    {
        "a form without colons": (
            [
                ("Name", "Alma Berg", "Post", "Keeper"),
                ("Born", "1980", "Height", "1.80"),
                ("Town", "Riga", "Zip", "1050"),
            ],
            None,
            ["Name | Alma Berg | Post | Keeper", "Born | 1980 | Height | 1.80", "Town | Riga | Zip | 1050"],
        ),
        "a form with colons": (
            [("Name:", "Alma Berg"), ("Born:", "1980"), ("Height:", "180")],
            None,
            ["Name: | Alma Berg", "Born: | 1980", "Height: | 180"],
        ),
        "fields marked as header": (
            [("Crew:", "", "Address:"), ("Alma", "x", "Riga")],
            1,
            ["Crew: | Address:", "Alma | x | Riga"],
        ),
        "a title above the header": (
            [("Dues of 2019",), ("Berth", "Fee"), ("North", "35"), ("South", "28")],
            None,
            ["Dues of 2019", "Berth | Fee", "Berth: North | Fee: 35", "Berth: South | Fee: 28"],
        ),
        "a title that is marked as header": (
            [("Dues of 2019",), ("Berth", "Fee"), ("North", "35")],
            1,
            ["Dues of 2019", "Berth | Fee", "Berth: North | Fee: 35"],
        ),
        "titles among the rows": (
            [("Berth", "Fee"), ("North side",), ("N1", "35"), ("South side",), ("S1", "28")],
            1,
            ["Berth | Fee", "North side", "Berth: N1 | Fee: 35", "South side", "Berth: S1 | Fee: 28"],
        ),
        "labels without a name": (
            [("", "", "2019", "2020"), ("Boats", "", "12", "14"), ("", "of which new", "2", "3")],
            None,
            ["2019 | 2020", "Boats | 2019: 12 | 2020: 14", "of which new | 2019: 2 | 2020: 3"],
        ),
        "a title that is said in each column": (
            [("Berth", "Fee", "Depth"), ("North side",) * 3, ("N1", "35", "4.5")],
            1,
            ["Berth | Fee | Depth", "North side", "Berth: N1 | Fee: 35 | Depth: 4.5"],
        ),
        "a header without names": (
            [("", ""), ("Name", "Alma"), ("Post", "Keeper")],
            1,
            ["Name | Alma", "Post | Keeper"],
        ),
        "columns without anything": (
            [("Berth", "", "Fee"), ("North", "", "35"), ("South", "", "28")],
            None,
            ["Berth | Fee", "Berth: North | Fee: 35", "Berth: South | Fee: 28"],
        ),
        "columns in a rhythm": (
            [("Berth", "Fee", "Berth", "Fee"), ("N1", "35", "S1", "28")],
            None,
            ["Berth | Fee | Berth | Fee", "Berth: N1 | Fee: 35 | Berth: S1 | Fee: 28"],
        ),
    },
)
def test_lines_of_a_table(rows: list[tuple[str, ...]], header_rows: int | None, lines: list[str]) -> None:
    assert [block.text for block in table_blocks(rows, header_rows=header_rows)] == lines
