"""Control characters, which a terminal may carry out."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from rag.text.invisible import strip_controls
from tests.support.tables import each


@each(
    "text, stripped",
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[2Jgone\x07\x00", "[2Jgone"),
        ("one\r\ntwo\rthree\x85four\x0cfive", "one\ntwo\nthree\nfour\nfive"),
        ("\x9b31mred\x7f", "31mred"),
        ("👩\u200d🔬 \u2028 \u00ad", "👩\u200d🔬 \u2028 \u00ad"),
    ],
)
def test_control_characters_are_removed(text: str, stripped: str) -> None:
    assert strip_controls(text) == stripped


@given(st.text(st.characters(max_codepoint=0x2FF)))
def test_no_control_character_is_left_but_tabs_and_line_feeds(text: str) -> None:
    stripped = strip_controls(text)
    assert {char for char in stripped if unicodedata.category(char) == "Cc"} <= {"\n", "\t"}
    assert strip_controls(stripped) == stripped
