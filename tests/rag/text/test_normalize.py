"""Normalized text and token counts: the fast functions agree with their plain definitions on any text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from rag.text.invisible import INVISIBLE
from rag.text.normalize import (
    MAX_CHARS_PER_TOKEN,
    estimate_tokens,
    normalize,
    sentence_spans,
    split_letters_and_digits,
    split_unspaced,
)
from tests.support.tables import each

# Characters that the rules name, with letters, digits and spaces of several kinds.
MARKS = "aAbz09 \n\r\t-\u00ad\u2010\u2011.·_…\ufffe\x02\x1c\x85\xa0\u200b\u2028ﬁﬆßé²½Іかカ日々한"
TEXTS = st.one_of(
    st.text(),
    st.text(st.sampled_from(MARKS), max_size=30),
    st.lists(
        st.sampled_from(["wave\u00ad\n", "co-\r\n op", ". . . .", "……", "FY2022", "a1b", "x" * 40, "11" * 30])
    ).map("".join),
)
LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
TYPESETTING = str.maketrans(dict.fromkeys(INVISIBLE, "") | LIGATURES | {"\u2010": "-", "\u2011": "-"})
BROKEN_WORD = re.compile(
    r"(?<=[^\W\d_])(?:-|\u00ad|\u2010)[ \t]*\r?\n[ \t]*(?=[^\W\d_A-Z])|[\ufffe\x02](?:[ \t]*\r?\n)?"
)
LEADERS = re.compile(r"(?:[.·_]\s?){4,}|…{2,}")
TEX_ACCENT = re.compile(r"[¨ˆ˜ˇ˚˝¸´`]")
LETTER_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+|\d+|([^\w\s]|_)\1*")

SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"'”’»)\]]*\s+(?=[^\W_a-z]|[\"'“‘„«(\[•¿¡])"
    r"|(?<=[。！？])[”’」』]*\s*"
    r"|(?:\r?\n[ \t]*){2,}"
    r"|\r?\n(?=[ \t]*[•▪◦*–-][ \t])"
)
SENTENCE_PARTS = [*".!?。！？\"'”’)」« \n\r\t•-*(aÉ", ". É", "\n\n", "\r\n - "]


@each(
    "text, expected",
    {
        "before the letter": (
            "Universit¨at Erd˝os ma˜nana ˇCapek Fran¸cais",
            "Universität Erdős mañana Čapek Français",
        ),
        "with a space": ("Z¨ urich", "Zürich"),
        "before a dotless i": ("Garc´ıa na¨ıve", "García naïve"),
        "other marks": ("it´s d´un `name` 20 ˚C x˜=", "it´s d´un `name` 20 ˚C x˜="),
        "degrees": ("von 20˚ und 30˚ auf", "von 20˚ und 30˚ auf"),
        "an address": ("www.cs.edu/˜name/˜abel", "www.cs.edu/˜name/˜abel"),
    },
)
def test_accents_of_tex_stand_on_their_letters(text: str, expected: str) -> None:
    assert normalize(text) == expected


@given(TEXTS)
def test_normalized_text(text: str) -> None:
    text = TEX_ACCENT.sub("", text)  # the test below is of these
    split = BROKEN_WORD.sub("", text).translate(TYPESETTING)
    assert normalize(text) == re.sub(r"\s+", " ", LEADERS.sub(" … ", split)).strip()


@given(TEXTS)
def test_a_space_stands_between_each_letter_and_digit(text: str) -> None:
    assert split_letters_and_digits(text) == LETTER_DIGIT.sub(" ", text)


@given(st.text(st.characters(max_codepoint=0x3004)))
def test_a_text_of_scripts_with_spaces_is_not_split(text: str) -> None:
    assert split_unspaced(text) == text


@given(TEXTS)
def test_the_tokens_of_a_text_are_those_of_its_words(text: str) -> None:
    tokens = [match[0] for match in TOKEN.finditer(text)]
    count = sum(
        (len(token) + 1) // 2 if token[0].isdigit() else (len(token) + 5) // 6 if token[0].isalpha() else 1
        for token in tokens
    )
    assert estimate_tokens(text) == max(count, len(text) // MAX_CHARS_PER_TOKEN)


@given(st.lists(st.sampled_from(SENTENCE_PARTS), max_size=20).map("".join), st.data())
def test_sentences_end_where_the_rules_say(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    spans, begin = [], start
    for mark in SENTENCE_END.finditer(text, start, end):
        spans.append((begin, mark.end()))
        begin = mark.end()
    spans.append((begin, end))
    assert [text[a:b] for a, b in sentence_spans(text, start, end)] == [
        text[a:b].strip() for a, b in spans if text[a:b].strip()
    ]


@each("first, last", [("々", "々"), ("ぁ", "ゟ"), ("ァ", "ヺ"), ("ー", "ヿ"), ("㐀", "䶿"), ("一", "鿿"), ("가", "힯")])
def test_a_character_of_a_script_without_spaces_is_split_off(first: str, last: str) -> None:
    for char in map(chr, range(ord(first), ord(last) + 1)):
        assert split_unspaced(f"a{char}b").split() in (["a", char, "b"], ["a", "b"])
