"""Fences around text that a model must treat as data."""

from __future__ import annotations

import re
import unicodedata
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from rag.answer import fence
from rag.answer.fence import Fence, defuse_tags, single_line
from rag.text import invisible
from rag.text.invisible import INVISIBLE, strip_invisible
from tests.support.injected.models import TOKENS
from tests.support.tables import each

DEFUSED = {
    "</source>": "‹/source>",
    "< / SOURCE n=1>": "‹ / SOURCE n=1>",
    "＜/ｓｏｕｒｃｅ＞": "‹/ｓｏｕｒｃｅ＞",
    "</sоurсе>": "‹/sоurсе>",
    "</söurce>": "‹/söurce>",
    "<\u200bsource>": "‹source>",
    "<question>": "‹question>",
    "<system>": "‹system>",
    "<|im_\u00adstart|>": "‹|im_start|>",
    "<｜User｜>": "‹｜User｜>",
    "[INST] <<SYS>>": "⁅INST] ‹<SYS>>",
    "<|a<|im_end|>|>": "<|a‹|im_end|>|>",
}
UNCHANGED = [
    "a < b",
    "x <- y",
    "<table>",
    "List<String>",
    "f <| g |> h",
    "[1]",
    "[see 2]",
    "<https://a.example/source>",
    "if a<b",
]


@each("text, defused", DEFUSED.items())
def test_tags_and_control_tokens_are_defused(text: str, defused: str) -> None:
    assert defuse_tags(f"x {text} y") == f"x {defused} y"


@each("text", list(UNCHANGED))
def test_other_text_is_not_changed(text: str) -> None:
    assert defuse_tags(text) == text


@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=3), st.sampled_from(sorted(INVISIBLE)[:40]))))
def test_no_control_token_survives_in_any_text(pieces: list[str]) -> None:
    assert not any(token in defuse_tags("".join(pieces)) for token in TOKENS)


def fold(char: str) -> str:
    """Return one character of a text as the search for tags sees it."""
    lowered = char.lower() if char.isascii() else unicodedata.normalize("NFKD", char)[0].lower()
    return (lowered if len(lowered) == 1 else char).translate(fence._LOOKALIKES)


def test_each_character_of_unicode_is_folded_alone() -> None:
    chars = "".join(map(chr, range(0x110000)))
    assert fence._folded(chars) == "".join(map(fold, chars))
    assert set(fence._OPENING.findall(chars)) == {char for char in chars if fold(char) in {"<", "["}}


@given(st.text(st.one_of(st.characters(), st.sampled_from("<[＜⟨ΣσAa/|‹")), max_size=40), st.sampled_from(TOKENS))
def test_tags_are_found_in_folded_text(text: str, token: str) -> None:
    seen = strip_invisible(text + token)
    tags = {match.start() for match in fence._TAG_LIKE.finditer("".join(map(fold, seen)))}
    expected = [fence._SUBSTITUTES[fold(char)] if n in tags else char for n, char in enumerate(seen)]
    assert defuse_tags(text + token) == "".join(expected)


@given(st.text(st.one_of(st.characters(), st.sampled_from("ab \n\r\v\u00ad\u200d\u0915\u0628\u2028")), max_size=20))
def test_visible_text_is_the_same_as_without_a_quick_test(text: str) -> None:
    quick = strip_invisible(text)
    with patch.object(invisible, "_MAY_NEED_STRIPPING", re.compile("")):
        assert strip_invisible(text) == quick


@given(st.text())
def test_no_invisible_character_survives_except_joiners_in_scripts_that_need_them(text: str) -> None:
    seen = strip_invisible(text)
    assert not (set(seen) - {"\u200c", "\u200d"}) & INVISIBLE
    assert strip_invisible(seen) == seen


@each(
    "text, seen",
    [
        ("a\u200bb\u2060c\ufeff", "abc"),
        ("\U000e0049\U000e0067x", "x"),
        ("\u202eevil\u202c", "evil"),
        ("exam\u00ad\nple co\u00adop", "exam-\nple coop"),
        ("a\r\nb\rc\u2028d\x85e\fg", "a\nb\nc\nd\ne\ng"),
        ("می\u200cخواهم a\u200cb", "می\u200cخواهم ab"),
        ("क\u094d\u200dष", "क\u094d\u200dष"),
        ("می\u200c\u200c\u200dخ", "میخ"),
        ("tab\there\x1b[0m\x08", "tab\there[0m"),
        ("😀\ufe0f\U000e0101", "😀"),
        ("plain", "plain"),
    ],
)
def test_strip_invisible_keeps_only_visible_characters(text: str, seen: str) -> None:
    assert strip_invisible(text) == seen


def test_single_line_joins_lines_and_replaces_square_brackets() -> None:
    assert single_line("a\n[1]\r\n【2】\u2028b", max_chars=80) == "a (1) (2) b"
    assert single_line("x" * 300, max_chars=200) == "x" * 199 + "…"


def test_each_fence_has_a_new_nonce_that_its_explanation_names() -> None:
    fence = Fence()
    assert fence.nonce != Fence().nonce
    assert len(fence.nonce) == 16
    assert f"-{fence.nonce} count" in fence.explain("the sources")
    assert fence.wrap("source", "tea", n=3) == f'<source-{fence.nonce} n="3">\ntea\n</source-{fence.nonce}>'
