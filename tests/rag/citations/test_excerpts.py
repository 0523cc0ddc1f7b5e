"""What an answer without a model shows of a passage."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from client.qdrant.bm25 import Bm25Encoder
from rag.citations.excerpts import MAX_EXCERPT_CHARS, Excerpt, Excerpts
from rag.search.relevance import QueryTerms, content_terms

TERMS = Bm25Encoder().terms
ALARMS = """6 Alarms and error codes . . . . . . . . . 31
7 Maintenance of the pump . . . . . . . . . 35
6 Alarms and error codes
What does an error code mean?
The pump shows the code of an error until
it is acknowledged. Code E17 means that the
inlet is blocked; clean the strainer.
A code cannot be acknowledged while its cause lasts.
7 Maintenance of the pump
Grease the bearing once a year."""
FIGURES = "\n".join(
    [
        "The company sells pumps on three continents.",
        "Consolidated statement of income",
        "(in millions of euros)",
        "2019 2018",
        "Revenue from pumps 412.6 381.0",
        *(f"Cost of kind number {n} {n}.5 {n}.7" for n in range(10, 60)),
        "Net income per share 3.05 2.91",
        "The board proposes a dividend.",
    ]
)


def excerpt_of(text: str, question: str, place: str = "") -> Excerpt:
    excerpt = Excerpts(text, QueryTerms(content_terms(question, TERMS), {}), TERMS).best(place)
    assert excerpt is not None
    return excerpt


def test_the_paragraph_around_the_best_sentence_is_shown_and_no_contents() -> None:
    for question in ("What does error code E17 mean?", "Which alarm and error codes mean that an inlet is blocked?"):
        found = excerpt_of(ALARMS, question)
        assert ALARMS[slice(*found.highlight)] == ("Code E17 means that the\ninlet is blocked; clean the strainer.")
        shown = ALARMS[found.start : found.end]
        assert shown.startswith("6 Alarms and error codes\nWhat")
        assert "cause lasts." in shown
        assert ". . ." not in shown


def test_a_row_is_shown_with_the_caption_the_unit_and_the_header_of_its_table() -> None:
    found = excerpt_of(FIGURES, "What was the net income per share in 2018?")
    assert FIGURES[slice(*found.highlight)] == "Net income per share 3.05 2.91"
    head = "\n".join(FIGURES[start:end] for start, end in found.head)
    assert head == "Consolidated statement of income\n(in millions of euros)\n2019 2018"
    short = FIGURES[: FIGURES.index("Cost")]
    whole = excerpt_of(short, "What was the revenue from pumps?")
    assert (whole.head, short[whole.start : whole.end]) == ((), short.strip())


def test_a_text_without_a_word_of_the_question_has_no_excerpt() -> None:
    assert Excerpts(ALARMS, QueryTerms(TERMS("dragon"), {}), TERMS).best("") is None


@given(st.text(max_size=2_000), st.text(max_size=60))
def test_an_excerpt_is_a_part_of_its_text(text: str, question: str) -> None:
    found = Excerpts(text, QueryTerms(TERMS(question), {}), TERMS).best(question)
    if found is not None:
        assert 0 <= found.start <= found.highlight[0] < found.highlight[1] <= found.end <= len(text)
        head = sum(end - start for start, end in found.head)
        assert found.end - found.start + head <= MAX_EXCERPT_CHARS


def test_a_long_text_is_searched_in_linear_time() -> None:
    for text in (
        "code E17 " * 3_000,
        "code 17 18 19\n" * 2_000,
        "code ....... 17\n" * 2_000,
        "E17 means\n" * 3_000,
    ):
        began = time.process_time()
        excerpt_of(text, "What does code E17 mean?")
        assert time.process_time() - began < 5


def test_the_best_sentence_between_two_offsets_is_shown_with_its_own_part_first() -> None:
    filler = " ".join(f"Nothing of note is said in sentence {n} of this part." for n in range(9))
    parts = [f"The lamp weighs {weight} grams. {filler}\n\n" for weight in (142, 150, 161)]
    text = "".join(parts)
    excerpts = Excerpts(text, QueryTerms(TERMS("weighs lamp"), {}), TERMS)
    for number, part in enumerate(parts):
        start = len("".join(parts[:number]))
        found = excerpts.best("", start, start + len(part))
        assert found is not None
        assert text[slice(*found.highlight)] == part.partition(" Nothing")[0]
        assert part.strip() in text[found.start : found.end]
