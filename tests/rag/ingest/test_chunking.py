"""Pages cut into chunks: at sentences and headings, tables whole, headers and footers left out, offsets exact."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.ingest import chunking
from rag.ingest.chunking import (
    CHUNK_TOKENS,
    chunk_pages,
    context_line,
    indexed_text,
    lexical_text,
    title_from_name,
)
from rag.ingest.layout import body_lines
from rag.ingest.table_chunks import TABLE_TOKENS
from rag.search.neighbours import join_chunks
from rag.text.normalize import MAX_CHARS_PER_TOKEN, estimate_tokens, normalize, sentence_spans
from schemas import Chunk, Document, Page

DOCUMENT = Document(upload_id="u", path="/a.pdf", name="AT-200_manual.pdf")
HOSTILE_CHARS = 60_000
LINES, BYTES_PER_LINE = 5_000, 200
PARAGRAPH = (
    "The keeper of the lighthouse wrote down the weather every morning at six. He noted the wind, the height of the "
    "waves and the visibility. Ships that passed were entered with their names and flags. "
)
WORDS = st.sampled_from(
    ["lamp", "A", "is", ".", "\n", "\n\n", "12", "3.5", "HEADING", "Over-\n", "ﬁre", "\r\n", "\t", "é"]
)


def chunks(*texts: str, labels: list[str] | None = None) -> list[Chunk]:
    pages = [
        Page(number=n, label=labels[n - 1] if labels else str(n), text=text) for n, text in enumerate(texts, start=1)
    ]
    return list(chunk_pages(DOCUMENT, pages, model="m"))


@given(texts=st.lists(st.one_of(st.text(max_size=600), st.lists(WORDS, max_size=400).map(" ".join)), max_size=6))
def test_chunks_are_exact_parts_of_their_page_and_join_to_all_of_it(texts: list[str]) -> None:
    made = chunks(*texts)
    assert [chunk.index for chunk in made] == list(range(len(made)))
    for page, text in enumerate(texts, start=1):
        of_page = [chunk for chunk in made if chunk.page == page]
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in of_page)
        assert all(chunk.text.strip() for chunk in of_page)
        for before, after in pairwise(of_page):
            joined = join_chunks(before, after)
            assert joined is not None
            assert text[joined.start : joined.end] == joined.text


@given(text=st.lists(WORDS, max_size=900).map(" ".join))
def test_no_chunk_is_larger_than_the_input_of_a_model(text: str) -> None:
    assert all(estimate_tokens(chunk.text) <= TABLE_TOKENS + CHUNK_TOKENS for chunk in chunks(text))


def test_chunks_end_where_sentences_end_and_overlap() -> None:
    made = chunks(PARAGRAPH * 6)
    assert len(made) > 1
    assert all(chunk.text.rstrip().endswith(".") for chunk in made)
    assert all(after.start < before.end for before, after in pairwise(made))


def test_a_heading_begins_a_chunk_and_is_the_section_of_the_text_below() -> None:
    made = chunks(f"Battery life\n{PARAGRAPH * 4}\n2.1 Charging\n{PARAGRAPH * 2}", f"{PARAGRAPH}\nThe end of it.")
    assert made[0].text.startswith("Battery life")
    assert made[0].section == "Battery life"
    charging = next(chunk for chunk in made if chunk.text.startswith("2.1 Charging"))
    assert charging.section == "2.1 Charging"
    assert made[-1].page == 2
    assert made[-1].section == "2.1 Charging"


def test_a_chunk_is_named_after_the_section_of_its_first_words() -> None:
    text = f"Old pier\n{PARAGRAPH * 5}It was sold.\nNew pier\nThe new one was built in spring. {PARAGRAPH}"
    headings = (0, text.index("New pier"))
    made = list(chunk_pages(DOCUMENT, [Page(number=1, label="1", text=text, headings=headings)], model="m"))
    [mixed] = [chunk for chunk in made if "New pier" in chunk.text]
    assert "It was sold." in mixed.text
    assert mixed.section == "Old pier"
    assert [mark.section for mark in mixed.marks] == ["Old pier", "New pier"]


def test_the_name_of_a_statement_is_the_section_of_its_rows() -> None:
    rows = "\n".join(f"Cost of kind {n} {n * 112} {n * 97}" for n in range(1, 17))
    for below in (
        "(in millions, except per share amounts)",
        "Year Ended December 31,",
        "2019 2018",
        "Oct 1, 2022 Dec 25, 2021",
    ):
        made = chunks(f"{PARAGRAPH * 4}The notes are a part of it\nStatements of Cash Flows\n{below}\n{rows}")
        assert made[-1].section == "Statements of Cash Flows"
    prose = chunks(f"{PARAGRAPH * 4}It was signed by\nGeneral Alfred Noble\nin the year after.\n{PARAGRAPH}")
    assert {chunk.section for chunk in prose} == {""}


def test_the_indexed_text_names_document_section_and_page() -> None:
    [made] = chunks("Battery life\nIt lasts for nine hours at medium brightness.", labels=["iv"])
    assert context_line(made) == "AT 200 manual | Battery life | page iv"
    assert indexed_text(made) == (
        "AT 200 manual | Battery life | page iv\nBattery life It lasts for nine hours at medium brightness."
    )


def test_a_table_stays_whole() -> None:
    rows = "\n".join(f"Region {n}   {n * 112}   {n * 97}   {n * 13} %" for n in range(1, 17))
    made = chunks(f"{PARAGRAPH * 3}\n{rows}\n{PARAGRAPH * 2}")
    assert any(rows in chunk.text for chunk in made)


def test_running_headers_and_footers_are_left_out() -> None:
    texts = [f"Annual report of Fennwick plc\n{PARAGRAPH} Page text {n}.\n{n + 11}\nConfidential" for n in range(1, 9)]
    for made in chunks(*texts):
        assert "Annual report" not in made.text
        assert "Confidential" not in made.text
        assert not made.text.rstrip().endswith(str(made.page + 11))
        assert f"Page text {made.page}." in made.text


def test_the_number_printed_on_a_page_is_its_label() -> None:
    texts = [f"{PARAGRAPH} It is about {n}.\n{n - 2} | Fennwick" if n > 2 else PARAGRAPH for n in range(1, 12)]
    texts[5] = PARAGRAPH  # the first page of a chapter has no number
    assert [made.page_label for made in chunks(*texts)] == ["1", "2", *map(str, range(1, 10))]
    assert {made.page_label for made in chunks(*texts, labels=["iv"] * 11)} == {"iv"}
    of_file = [f"{PARAGRAPH} It is about {n}.\nPage {n} of 9" for n in range(1, 10)]
    assert [made.page_label for made in chunks(*of_file)] == [*map(str, range(1, 10))]
    # Nobody knows which of two numbers is that of the page.
    two = [f"{n + 4}\n{PARAGRAPH} It is about {n}.\n{n + 70}" for n in range(1, 10)]
    assert [made.page_label for made in chunks(*two)] == [*map(str, range(1, 10))], (
        "nobody knows which of them is the number of the page"
    )


COUNTING_LINES = (
    "{}",
    "- {} -",
    "-{}-",
    "[{}]",
    "Fennwick plc {}",
    "{} Fennwick plc",
    "Fennwick | {}",
    "Fennwick   {}",
    "Fennwick – {}",
    "Version 1.3 {}",
    "2021 Form 10-K {}",
    "Chapter 2: Tides {}",
    "Page {}",
    "Annual report, page {} of 40, draft",
    "p. {}",
    "Seite {} von 40",
    "Página {}",
    "report_page-{}",
    "Slide {} | Fennwick",
    "{} of 40",
    "{}/40",
    "Fennwick plc {} / 40",
    "第 {} 页",
    "{} | Chapter 3",
    "{} Table of Contents",
    "Chapter 3 | {}",
)
OTHER_LINES = (
    "Newsletter issue #12",
    "Contract #77, page 1",
    "Article {}",
    "Lamp {}",
    "The long Article {}",
    "Table {}: Costs",
    "{}. The buyer shall pay",
    "({}) The buyer shall pay",
    "{}) The buyer",
    "Question {}",
    "Question {} of 40",
    "Sample no. {}",
    "Newsletter #{}",
    "§ {}",
    "Our price: ${}",
    "{}%",
    "{}th of the month",
    "{} weeks",
    "Training week {}",
    "{} January",
    "Rows {} and more",
    "3-{}",
    "Page 3-{}",
    "3 – {}",
    "F-{}",
    "{}-3",
    "{} - 3",
    "2.{}",
    "{}.5",
    "{}/40/2021",
    "Ref: {}",
)


@pytest.mark.parametrize(
    ("line", "offset", "printed"),
    [
        *[(line, 4, True) for line in COUNTING_LINES],
        *[(line, 4, False) for line in OTHER_LINES],
        ("{} | Annual results", 1990, False),
        ("Results of {}", 1990, False),
        ("{}", 1500, True),
        ("{}", 2500, False),
    ],
)
def test_a_number_that_counts_up_is_a_label_only_where_page_numbers_stand(
    line: str, offset: int, *, printed: bool
) -> None:
    texts = [f"{PARAGRAPH} It is about {n}.\n{line.format(n + offset)}" for n in range(1, 10)]
    first = 1 + (offset if printed else 0)
    assert [made.page_label for made in chunks(*texts)] == [str(n) for n in range(first, first + 9)]


def test_pages_numbered_by_chapter_keep_their_own_labels() -> None:
    texts = [f"{PARAGRAPH} It is about {n}.\n{1 + n // 5}-{1 + n % 5}" for n in range(20)]
    assert [made.page_label for made in chunks(*texts)] == [str(n) for n in range(1, 21)]


def test_headers_of_left_and_right_pages_and_roman_numbers_are_left_out() -> None:
    heads, roman = ["The Brindle Point Almanac", "Chapter on tides"], ["i", "ii", "iii", "iv", "v", "vi"]
    texts = [f"{heads[n % 2]}\n{PARAGRAPH}\n{roman[n]}" for n in range(6)]
    assert all(made.text.strip() == PARAGRAPH.strip() for made in chunks(*texts))


def test_headings_that_differ_only_in_their_number_are_kept() -> None:
    texts = [f"Article {7 * n % 11}\n{PARAGRAPH} It is about {n}." for n in range(1, 9)]
    assert all(made.text.startswith("Article") for made in chunks(*texts))


def test_a_page_of_nothing_but_running_lines_keeps_them() -> None:
    assert len(chunks(*["Confidential"] * 5)) == 5


def test_broken_words_ligatures_and_spaces_are_normalized_for_the_index_only() -> None:
    raw = "The e\ufb03cient light-\nhouse\u00a0keeper re\u00adpaired  the\r\nwell-known  lamp in FY2022 ........ 14"
    [made] = chunks(raw)
    assert made.text == raw
    assert normalize(raw) == "The efficient lighthouse keeper repaired the well-known lamp in FY2022 … 14"
    assert normalize("inter\ufffe\r\nnational co\x02operation") == "international cooperation"
    assert "FY 2022" in lexical_text(raw)
    assert normalize("Anglo-\nSaxon") == "Anglo- Saxon"


def test_an_abbreviation_does_not_end_a_sentence() -> None:
    text = "Dr. Vale met Mr. J. Smith in the U.S. Army. They spoke, e.g. of Fig. 3 and No. 5. It cost 3.5 crowns! So?"
    found = [text[start:end] for start, end in sentence_spans(text)]
    assert found == [
        "Dr. Vale met Mr. J. Smith in the U.S. Army.",
        "They spoke, e.g. of Fig. 3 and No. 5.",
        "It cost 3.5 crowns!",
        "So?",
    ]


def test_first_chunks_carry_the_text_of_their_page_and_of_the_opening_pages() -> None:
    made = chunks(PARAGRAPH * 6, "", "Third.", "Fourth.", "Fifth.")
    assert made[0].page_text == (PARAGRAPH * 6).strip()
    assert "Third." in made[0].opening
    assert "Fourth." in made[0].opening
    assert "Fifth." not in made[0].opening
    assert not made[1].page_text
    assert not made[1].opening
    assert "opening" not in made[0].model_dump()


def test_a_file_name_becomes_a_title() -> None:
    assert title_from_name("AT-200_manual.v2.pdf") == "AT 200 manual v2"
    assert title_from_name("___.pdf") == ""


HOSTILE_PAGES = {
    "no gap": "a" * HOSTILE_CHARS,
    "digits": "1" * HOSTILE_CHARS,
    "lines of a letter": "a\n" * (HOSTILE_CHARS // 2),
    "spaces": "a" + " " * HOSTILE_CHARS + "b",
    "one mark": "a" + "-" * HOSTILE_CHARS,
    "headings": "ABCDE\n" * (HOSTILE_CHARS // 6),
    "accents": "a\u0301" * (HOSTILE_CHARS // 2),
    "a row of figures": "1 " * (HOSTILE_CHARS // 2) + "\n" + "2 " * 100,
    "rows": "a\tb\tc\td\n" * (HOSTILE_CHARS // 8),
    "sentences": "A. " * (HOSTILE_CHARS // 3),
}


@pytest.mark.parametrize("kind", HOSTILE_PAGES)
def test_a_hostile_page_is_cut_in_linear_time_into_bounded_chunks(kind: str) -> None:
    """Counts the characters examined: cutting each chunk off the whole rest would examine a thousand times as many."""
    examined = 0

    def counted(text: str) -> int:
        nonlocal examined
        examined += len(text)
        return estimate_tokens(text)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunking, "estimate_tokens", counted)
        made = chunks(HOSTILE_PAGES[kind])
    assert examined <= 60 * HOSTILE_CHARS
    assert all(len(chunk.text) <= MAX_CHARS_PER_TOKEN * (TABLE_TOKENS + CHUNK_TOKENS) for chunk in made)


def test_long_lines_at_page_edges_are_not_copied_for_each_number() -> None:
    pages = [Page(number=n, label=str(n), text="1 " * 20_000) for n in range(1, 4)]
    tracemalloc.start()
    try:
        for _ in body_lines(pages):
            pass
        assert tracemalloc.get_traced_memory()[1] < 20_000_000  # 800 MB a page with a copy for each number
    finally:
        tracemalloc.stop()


def test_only_one_page_at_a_time_is_held_in_lines() -> None:
    pages = [Page(number=n, label=str(n), text="a\n" * LINES) for n in range(1, 8)]
    tracemalloc.start()
    try:
        for _ in body_lines(pages):
            pass
        assert tracemalloc.get_traced_memory()[1] < 2 * LINES * BYTES_PER_LINE
    finally:
        tracemalloc.stop()
