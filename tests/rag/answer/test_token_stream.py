"""The stream of an answer's pieces."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rag.answer import prompt, token_stream
from rag.answer.prompt import REFUSAL_MARK, strip_refusal_mark
from rag.answer.token_stream import TokenStream
from rag.citations.quotations import split_quotations
from tests.support.tables import each


@each(
    "parts, pieces",
    [
        (["Tea ", "is ", "at ", "four."], ["Tea", " is at four."]),
        (["[NO", " ANSWER", "] No", " king."], ["No", " king."]),
        (["**[no ", "answer]", "**: No", " king."], ["No", " king."]),
        (["[NO ANSWER]", " [NO ANSWER] No"], ["No"]),
        (["Tea [1]. [NO", " ANS", "WER]", " It"], ["Tea [1].", " It"]),
        (["Tea [", "1]."], ["Tea", " [1]."]),
        (["[1", "] says"], ["[1] says"]),
        (["[1 and no", " more than this"], ["[1 and no more than this"]),
        (['Tea [1 "is', " served", ' at four"', "]. It", ' is [2: "ho', "t"], ["Tea", " [1]. It is [2]"]),
        (['[1 "is served; 2', ' "hot"] or', " [1 "], ["[1] or", " [1 "]),
        (['[1 "is served', "\n", "\nGood"], ["[1]\n\nGood"]),
        ([" ", "", "x"], ["x"]),
        (["[NO"], ["[NO"]),
        (["Tea\x1b[2J", "\x00 is", " at\r", "\n", "four."], ["Tea", "[2J is at\nfour."]),
        (["[NO\x07", " ANSWER] No"], ["No"]),
        ([], []),
    ],
)
def test_an_answer_is_passed_on_in_pieces_without_the_refusal_mark(parts: list[str], pieces: list[str]) -> None:
    received: list[str] = []
    now = 100.0
    stream = TokenStream(lambda text, _checked: received.append(text), clock=lambda: now)
    for part in parts:
        stream.add(part)
    stream.end()
    assert received == pieces


def test_restart_is_reported_if_pieces_were_passed_on() -> None:
    received: list[str] = []
    stream = TokenStream(
        lambda text, _checked: received.append(text),
        on_restart=lambda: received.append("(restart)"),
        clock=lambda: 100.0,
    )
    stream.add("  ")
    stream.restart()  # nothing was passed on yet
    for part in ("The ", "lamp"):
        stream.add(part)
    stream.restart()
    for part in (REFUSAL_MARK, " None."):
        stream.add(part)
    stream.end()
    assert received == ["The", "(restart)", "None."]


PIECES = st.sampled_from([*"[] *_-.İK", "no", "NO", "answer", "Answer", "**[no", REFUSAL_MARK, f"**{REFUSAL_MARK}**"])


@given(text=st.lists(PIECES, max_size=20).map("".join))
def test_text_is_held_back_only_if_it_may_begin_a_mark(text: str) -> None:
    beginnings = {mark[:size] for mark in token_stream._MARKS for size in range(1, len(mark))}
    held_back = [size for size in range(1, len(text) + 1) if text[-size:].lower() in beginnings]
    assert token_stream._chars_to_hold_back(text) == max(held_back, default=0)
    assert strip_refusal_mark(text) == prompt._REFUSAL_MARK.sub("", text)


MARKS = st.sampled_from(
    [*'[]"”: \n1;a.', "[1", '[1 "', '[2: "', '"]', '"; 3 "', "\n\n", "Source 1", "[1]", "words ", "x" * 700]
)


@given(parts=st.lists(MARKS, max_size=24), whole=st.booleans())
@example(parts=['[2: "', "words ", "\n\n"], whole=False)
def test_quotations_are_streamed_to_nobody(parts: list[str], whole: bool) -> None:
    received: list[str] = []
    stream = TokenStream(lambda text, _checked: received.append(text), clock=lambda: 100.0)
    for part in ["Tea. ", *(["".join(parts)] if whole else parts)]:
        stream._passed_on_at = float("-inf")
        stream.add(part)
    stream.end()
    plain, _ = split_quotations(strip_refusal_mark(f"Tea. {''.join(parts)}"))
    assert "".join(received) == plain
