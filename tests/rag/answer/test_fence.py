"""Text handed to a model as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.answer.fence import Fence, harmless, one_line
from rag.text.invisible import INVISIBLE, strip_invisible
from tests.support.injected.models import TOKENS

SPOILT = {
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
KEPT = [
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


@pytest.mark.parametrize(("text", "spoilt"), SPOILT.items(), ids=SPOILT)
def test_what_could_pass_for_a_tag_or_a_token_is_spoilt(text: str, spoilt: str) -> None:
    assert harmless(f"x {text} y") == f"x {spoilt} y"


@pytest.mark.parametrize("text", KEPT)
def test_other_signs_stay(text: str) -> None:
    assert harmless(text) == text


@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=3), st.sampled_from(sorted(INVISIBLE)[:40]))))
def test_no_token_of_a_model_is_ever_left(pieces: list[str]) -> None:
    assert not any(token in harmless("".join(pieces)) for token in TOKENS)


@given(st.text())
def test_nothing_unseen_is_ever_left_but_joiners_in_scripts_that_need_them(text: str) -> None:
    seen = strip_invisible(text)
    assert not (set(seen) - {"\u200c", "\u200d"}) & INVISIBLE
    assert strip_invisible(seen) == seen


@pytest.mark.parametrize(
    ("text", "seen"),
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
def test_only_what_can_be_seen_is_shown(text: str, seen: str) -> None:
    assert strip_invisible(text) == seen


def test_a_name_is_one_line_without_numbers_in_brackets() -> None:
    assert one_line("a\n[1]\r\n【2】\u2028b", longest=80) == "a (1) (2) b"
    assert one_line("x" * 300, longest=200) == "x" * 199 + "…"


def test_a_fence_has_a_mark_of_its_own_that_its_rule_names() -> None:
    one, other = Fence(), Fence()
    assert one.mark != other.mark
    assert len(one.mark) == 16
    assert f"-{one.mark} count" in one.rule("the sources")
    assert one.around("source", "tea", n=3) == f'<source-{one.mark} n="3">\ntea\n</source-{one.mark}>'
