"""Where quotations stand, and which numbers stand there: the cheap ways find what the thorough ones find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client.qdrant.bm25 import Bm25Encoder
from rag.citations.exact import _letters, _locate_verbatim, locate_quotation
from rag.citations.support import Evidence
from tests.support.tables import each

CHARS = st.one_of(st.sampled_from("ab 12.,'’-\n½²٣ﬁ\u00a0"), st.characters(exclude_categories=["Cs"]))
TEXT = st.text(CHARS, max_size=40)


@given(TEXT, st.integers(0, 40), st.integers(0, 40))
def test_words_that_a_text_has_verbatim_are_found_whole(text: str, start: int, end: int) -> None:
    words = text[start:end]
    assert locate_quotation(words, text) is not None or not _letters(words).text
    span = _locate_verbatim(words, text)
    if span is not None:
        assert text[slice(*span)] in words
        assert _letters(text[slice(*span)]).text == _letters(words).text
        runs = _letters(text).spans
        assert span[0] in {first for first, _ in runs}
        assert span[1] in {last for _, last in runs}


@each(
    "words, text, found",
    [
        ("weighs 142", "It weighs 142.5 grams, and the other weighs 142 grams.", "weighs 142"),
        ("14", "142 and 14", "14"),
        ("the cat.", "The cathedral and the cat", "the cat"),
        ("“The lamp turns,”", "The lamp turns once.", "The lamp turns"),
        ("the LAMP turns", "The lamp\nturns once.", "The lamp\nturns"),
    ],
)
def test_whole_words_are_found_first(words: str, text: str, found: str) -> None:
    span = locate_quotation(words, text)
    assert span is not None
    assert text[slice(*span)] == found


@given(TEXT, TEXT, st.integers(0, 40), st.integers(0, 40))
def test_numbers_near_a_quotation_stand_in_the_passage(text: str, claim: str, start: int, end: int) -> None:
    evidence = Evidence(text, Bm25Encoder().terms)
    claim = claim + text[start : start + 5]
    if evidence.states_numbers(claim, near=(min(start, len(text)), max(min(start, len(text)), min(end, len(text))))):
        assert evidence.states_numbers(claim)
