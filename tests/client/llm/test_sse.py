"""Server-sent events are the same however the network cuts them."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.llm.sse import EventSplitter

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def split(pieces: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """Draw texts, and a stream that says them as a server may: with comments, other fields and blank lines between."""
    end = draw(LINE_ENDS)
    texts = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8))
    lines: list[str] = []
    for text in texts:
        lines += draw(st.lists(st.sampled_from([": ping", "event: message", "id: 7", "retry: 10", "", "data", ":"])))
        lines += [draw(st.sampled_from(["data:", "data: "])) + json.dumps(text, ensure_ascii=draw(st.booleans())), ""]
    whole = "".join(line + end for line in lines).encode()
    return texts, whole + (b"\n" if end == "\r" else b"")  # only more data tells that a carriage return stands alone


@given(streams(), st.lists(st.integers(0, 400)))
def test_any_cutting_gives_the_same_events(stream: tuple[list[str], bytes], cuts: list[int]) -> None:
    texts, whole = stream
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    assert [json.loads(event) for event in split([whole[a:b] for a, b in pairwise(places)])] == texts
    assert [json.loads(event) for event in split([whole[n : n + 1] for n in range(len(whole))])] == texts


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"data: whole\n\ndata: unfinished\n", [b"whole"]),
        (b"database: no field\n\ndata: x\n\n", [b"x"]),
        (b"\n\n\n: nothing\n\n", []),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    ],
)
def test_the_forms_of_an_event(stream: bytes, events: list[bytes]) -> None:
    assert split([stream]) == events
