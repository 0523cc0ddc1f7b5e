"""What text means once its typesetting is taken off: for the index, the model and comparisons, never for storage.

A page's stored text stays as the extractor gave it, so that quotes and offsets point into it exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag.text.invisible import INVISIBLE

_TYPESETTING = str.maketrans(
    dict.fromkeys(INVISIBLE, "")
    | {
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
        "\u2010": "-",  # hyphen
        "\u2011": "-",  # non-breaking hyphen
    }
)
# A hyphen at the end of a line, between small letters: a word that was broken there. pdfium writes U+FFFE or U+0002.
_BROKEN_WORD = re.compile(
    r"(?<=[^\W\d_])(?:-|\u00ad|\u2010)[ \t]*\r?\n[ \t]*(?=[^\W\d_A-Z])|[\ufffe\x02](?:[ \t]*\r?\n)?"
)
_SPACES = re.compile(r"\s+")
# The dots of a table of contents.
_LEADERS = re.compile(r"(?:[.·_]\s?){4,}|…{2,}")
_LETTER_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
# Scripts that are written without spaces between words (kanji and hanzi, hangul with its particles), and kana.
_UNSPACED = re.compile(
    r"(?P<pairs>[\u3005\u3400-\u4dbf\u4e00-\u9fff]+|[\uac00-\ud7af]+)|(?P<word>[\u30a1-\u30fa\u30fc-\u30ff]+)|"
    r"[\u3041-\u309f]+"
)
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+|\d+|([^\w\s]|_)\1*")
_LETTERS_A_TOKEN = 6
_DIGITS_A_TOKEN = 2
# At least one token for so much of anything, such as a long run of spaces: so a bound on tokens bounds characters.
MAX_CHARS_A_TOKEN = 32

# Where a sentence ends: its mark, closing quotes, white space, and then something that can begin one.
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"'”’»)\]]*\s+(?=[^\W_a-z]|[\"'“‘„«(\[•¿¡])"
    r"|(?<=[。！？])[”’」』]*\s*"
    r"|(?:\r?\n[ \t]*){2,}"
    r"|\r?\n(?=[ \t]*[•▪◦*–-][ \t])"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[“\"])(?:[A-Z]|[A-Z]\.[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sen|Rep|Gov|Gen|Hon|Jr|Sr|No|Nos|Fig|Figs|Eq|Sec|Art|"
    r"\d+(?:\.\d+)+|Vol|Ch|pp?|vs|cf|e\.g|i\.e|al|approx|Inc|Ltd|Co|Corp|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec|Nr|bzw|z\.B|S|"
    r"Mio|Mrd|Tsd|ca|Abs|inkl|zzgl|ggf|env|art|núm|pág)\.$"
)
_LONGEST_ABBREVIATION = 10


def normalize(text: str) -> str:
    """Return `text` on one line: broken words mended, ligatures taken apart, what nobody sees left out."""
    return _SPACES.sub(" ", _LEADERS.sub(" … ", _BROKEN_WORD.sub("", text).translate(_TYPESETTING))).strip()


def split_letters_and_digits(text: str) -> str:
    """Return `text` with a space between a letter and a digit, so that `FY2022` is found by `fiscal 2022`."""
    return _LETTER_DIGIT.sub(" ", text)


def split_unspaced(text: str) -> str:
    """Return `text` with the words of scripts without spaces apart: every two characters that follow each other.

    Words of katakana stand as they are. Hiragana, which is mostly endings and particles, is left out beside others.
    """
    split = _UNSPACED.sub(_in_pairs, text)
    return split if split.strip() else text


def _in_pairs(found: re.Match[str]) -> str:
    run = found["pairs"]
    if run is None:
        return f" {found['word'] or ''} "
    return f" {' '.join(run[at : at + 2] for at in range(max(1, len(run) - 1)))} "


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a model makes of `text`, rather too many than too few.

    Of all-MiniLM-L6-v2's tokenizer, over the chunks of a report and a speech, it gives 1.0 to 1.3 times the number.
    """
    count = 0
    for token in _TOKEN.finditer(text):
        first, size = token[0][0], len(token[0])
        if first.isdigit():
            count += -(-size // _DIGITS_A_TOKEN)
        else:
            count += -(-size // _LETTERS_A_TOKEN) if first.isalpha() else 1
    return max(count, len(text) // MAX_CHARS_A_TOKEN)


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield where each sentence of `text[start:end]` begins and ends, without the white space around it."""
    end = len(text) if end is None else end
    begin = start
    for mark in _SENTENCE_END.finditer(text, start, end):
        head = text[max(begin, mark.start() - _LONGEST_ABBREVIATION) : mark.start()]
        if "\n" not in mark[0].strip(" ") and _ABBREVIATION.search(head):
            continue
        yield from _stripped(text, begin, mark.end())
        begin = mark.end()
    yield from _stripped(text, begin, end)


def _stripped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    if bare := piece.strip():
        begin = start + piece.index(bare)
        yield begin, begin + len(bare)
