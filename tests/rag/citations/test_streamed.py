"""The marks of an answer that a model still writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client.qdrant.bm25 import Bm25Encoder
from rag.answer.token_stream import TokenStream
from rag.citations.check import check_citations
from rag.citations.streamed import StreamedMarks
from tests.rag.citations.test_check import LAMP, TEA, passage
from tests.support.tables import each

TERMS = Bm25Encoder().terms
QUESTION = "What is served, and how does the lamp turn?"
PASSAGES = [passage(LAMP), passage(TEA, page=2)]


def streamed(parts: list[str]) -> str:
    """Return an answer as it is streamed, each part a piece."""
    received: list[str] = []
    marks = StreamedMarks(PASSAGES, QUESTION, TERMS)
    stream = TokenStream(lambda _text, checked: received.append(checked), marks=marks)
    for part in parts:
        stream._passed_on_at = float("-inf")
        stream.add(part)
    stream.end()
    return "".join(received)


ANSWERS = {
    "each by its source": "The lamp turns once in twelve seconds [1]. Tea is served at four [2].",
    "another source": "The lamp turns once in twelve seconds [2]. Tea is served at four [2].",
    "no source": "The lamp turns once in twelve seconds [1]. Tea is served at four [7].",
    "a wrong number": "The lamp turns once in twelve seconds [1]. Scones cost nine crowns [2].",
    "in other forms": "The lamp turns once in twelve seconds 【1】 [source 1]. Tea is served at four [#2].",
    "with their words": 'It turns [1 "turns once in twelve seconds"]. Drinks come at four [2 "served at four"].',
    "with words of nobody": 'It turns [1 "turns once in twelve seconds"]. Drinks come at six [2 "served at six"].',
    "several at once": "The lamp turns once in twelve seconds [1, 2]. Tea is served at four [1][2].",
    "paragraphs": "The lamp turns once in twelve seconds [1].\n\n- Tea is served at four [2]\n- Scones are served [2]",
    "code": "The lamp turns once in twelve seconds [1].\n\n```\nlamp[1] = tea[2]\n\nx = lamp[2]\n```\nTea at four [2].",
    "a refusal": "The sources do not say what is served, nor how the lamp turns there [1].",
    "no mark": "The lamp turns once in twelve seconds.",
}


@each("answer", ANSWERS)
def test_streamed_marks_are_those_of_the_whole_check(answer: str) -> None:
    words = [part for word in answer.split(" ") for part in (word[:1], word[1:] + " ")]
    expected = check_citations(answer, PASSAGES, QUESTION, TERMS).text
    for parts in ([answer], list(answer), words):
        assert streamed(parts).rstrip() == expected


PARTS = st.sampled_from([*"[]【】 .\n`:", "[1]", " [2]", "[1, 2]", '[1 "', '"]', "lamp", "tea ", "four", "```", "\n\n"])


@given(parts=st.lists(PARTS, max_size=30))
def test_only_marks_are_ever_left_out(parts: list[str]) -> None:
    marks = StreamedMarks(PASSAGES, QUESTION, TERMS)
    received: list[tuple[str, str]] = []
    stream = TokenStream(lambda text, checked: received.append((text, checked)), marks=marks)
    for part in parts:
        stream._passed_on_at = float("-inf")
        stream.add(part)
    stream.end()
    for text, checked in received:
        at = -1
        for char in checked.replace("[", "").replace("]", ""):
            if not char.isdecimal() and char not in ", ":
                at = text.find(char, at + 1)
                assert at >= 0, (text, checked)
