"""The stream of an answer's pieces."""

from __future__ import annotations

from rag.answer.prompt import REFUSAL_MARK
from rag.answer.token_stream import TokenStream
from tests.support.tables import each


@each(
    "parts, pieces",
    [
        (["Tea ", "is ", "at ", "four."], ["Tea ", "is at four."]),
        (["[NO", " ANSWER", "] No", " king."], ["No", " king."]),
        (["**[no ", "answer]", "**: No", " king."], ["No", " king."]),
        (["[NO ANSWER]", " [NO ANSWER] No"], ["No"]),
        (["Tea [1]. [NO", " ANS", "WER]", " It"], ["Tea [1]. ", " It"]),
        (["Tea [", "1]."], ["Tea ", "[1]."]),
        (["[1", "] says"], ["[1", "] says"]),
        ([" ", "", "x"], ["x"]),
        (["[NO"], ["[NO"]),
        ([], []),
    ],
)
def test_an_answer_is_passed_on_in_pieces_without_the_refusal_mark(parts: list[str], pieces: list[str]) -> None:
    received: list[str] = []
    now = 100.0
    stream = TokenStream(received.append, clock=lambda: now)
    for part in parts:
        stream.add(part)
    stream.end()
    assert received == pieces


def test_restart_is_reported_if_pieces_were_passed_on() -> None:
    received: list[str] = []
    stream = TokenStream(received.append, on_restart=lambda: received.append("(restart)"), clock=lambda: 100.0)
    stream.add("  ")
    stream.restart()  # nothing was passed on yet
    for part in ("The ", "lamp"):
        stream.add(part)
    stream.restart()
    for part in (REFUSAL_MARK, " None."):
        stream.add(part)
    stream.end()
    assert received == ["The ", "(restart)", "None."]
