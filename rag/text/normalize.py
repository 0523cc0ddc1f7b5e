"""Normalized text, its tokens and its sentences: for the index, the model and comparisons.

A page's text is stored exactly as the extractor returned it, so that quotes and offsets stay exact.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from rag.text.invisible import INVISIBLE_CLASS

_TYPESETTING = {
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
_TYPESET_CHAR = re.compile(f"[{''.join(_TYPESETTING)}{INVISIBLE_CLASS}]")
# Each expression below starts with a set of characters: the engine scans for such a set 10 to 40 times as fast as it
# tries a look-behind or alternatives at each character.
#
# A word broken at the end of a line: a hyphen before a lower-case letter, or U+FFFE or U+0002 as pdfium writes it.
_BROKEN_WORD = re.compile(
    r"[-\u00ad\u2010\ufffe\x02](?:"
    r"(?<=[^\W\d_][-\u00ad\u2010])[ \t]*\r?\n[ \t]*(?=[^\W\d_A-Z])|(?<=[\ufffe\x02])(?:[ \t]*\r?\n)?)"
)
# The leader dots of a table of contents.
_LEADERS = re.compile(r"[.·_…](?:(?<=[.·_])\s?(?:[.·_]\s?){3,}|(?<=…)…+)")
_DIGIT_AFTER_LETTER = re.compile(r"\d(?<=[^\W\d_]\d)")
_DIGIT_BEFORE_LETTER = re.compile(r"\d(?=[^\W\d_])")
# Scripts whose words are not separated by spaces: kanji and hanzi, hangul with its particles, katakana, hiragana.
_UNSPACED = re.compile(
    r"(?P<bigrams>[\u3005\u3400-\u4dbf\u4e00-\u9fff]+|[\uac00-\ud7af]+)|(?P<word>[\u30a1-\u30fa\u30fc-\u30ff]+)|"
    r"[\u3041-\u309f]+"
)
# Every character that `_UNSPACED` can match.
_UNSPACED_CHAR = re.compile(r"[\u3005\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+|\d+|([^\w\s]|_)\1*")
# TeX sets an accent and its letter as two characters, in this order. The acute and the grave are marks of other things,
# too, but before a dotless i; so are the ring behind a figure, of degrees, and the tilde behind a slash, of addresses.
_ACCENTS = {
    "¨": "\u0308",
    "ˆ": "\u0302",
    "˜": "\u0303",
    "ˇ": "\u030c",
    "˚": "\u030a",
    "˝": "\u030b",
    "¸": "\u0327",
    "´": "\u0301",
    "`": "\u0300",
}
_TEX_ACCENT = re.compile(r"(?<![\d/])[¨ˆ˜ˇ˚˝¸´`] ?(?:ı|(?<=[¨ˆ˜ˇ˚˝¸])[^\W\d_]|(?<=[¨ˆ˜ˇ˚˝¸] )[^\W\d_])")
_LETTERS_PER_TOKEN = 6
_DIGITS_PER_TOKEN = 2
# The estimate is at least one token for this many characters, even of spaces, so that a limit on tokens also limits the
# characters.
MAX_CHARS_PER_TOKEN = 32
# The counts of so many words of at most so many characters are cached. They take about 1.5 MB.
_CACHED_WORDS = 16_384
_SHORT_WORD = 64

# The end of a sentence: its mark, closing quotes, white space, and then a character that can begin a sentence. Also a
# blank line, and the line break before an item of a list.
_SENTENCE_MARKS = ".!?。！？"
_SENTENCE_END = re.compile(
    rf"[{_SENTENCE_MARKS}\r\n](?:"
    r"(?<=[.!?])[\"'”’»)\]]*\s+(?=[^\W_a-z]|[\"'“‘„«(\[•¿¡])"
    r"|(?<=[。！？])[”’」』]*\s*"
    r"|(?:(?<=\n)|(?<=\r)\n)(?:[ \t]*(?:\r?\n[ \t]*)+|(?=[ \t]*[•▪◦*–-][ \t])))"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[“\"])(?:[A-Z]|[A-Z]\.[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sen|Rep|Gov|Gen|Hon|Jr|Sr|No|Nos|Fig|Figs|Eq|Sec|Art|"
    r"\d+(?:\.\d+)+|Vol|Ch|pp?|vs|cf|e\.g|i\.e|al|approx|Inc|Ltd|Co|Corp|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec|Nr|bzw|z\.B|S|"
    r"Mio|Mrd|Tsd|ca|Abs|inkl|zzgl|ggf|env|art|núm|pág)\.$"
)
_LONGEST_ABBREVIATION = 10


def normalize(text: str) -> str:
    """Return `text` on one line: broken words joined, ligatures split, accents on their letters, nothing invisible."""
    text = _TYPESET_CHAR.sub(lambda char: _TYPESETTING.get(char[0], ""), _BROKEN_WORD.sub("", text))
    text = _TEX_ACCENT.sub(_accented, text)
    return " ".join(_LEADERS.sub(" … ", text).split())


def _accented(match: re.Match[str]) -> str:
    """Return an accent and its letter as one character, or unchanged where Unicode has no such character."""
    accent, letter = match[0][0], match[0][-1].replace("ı", "i")
    composed = unicodedata.normalize("NFC", letter + _ACCENTS[accent])
    return composed if len(composed) == 1 else match[0]


def split_letters_and_digits(text: str) -> str:
    """Return `text` with a space between a letter and a digit, so that `fiscal 2022` matches `FY2022`."""
    text = _DIGIT_AFTER_LETTER.sub(lambda digit: f" {digit[0]}", text)
    return _DIGIT_BEFORE_LETTER.sub(lambda digit: f"{digit[0]} ", text)


def split_unspaced(text: str) -> str:
    """Return `text` with spaces inside scripts without spaces: kanji, hanzi and hangul become overlapping bigrams.

    A run of katakana stays one word. Hiragana, which is mostly endings and particles, is dropped unless the text has
    nothing else.
    """
    if not _UNSPACED_CHAR.search(text):
        return text
    split = _UNSPACED.sub(_as_words, text)
    return split if split.strip() else text


def _as_words(match: re.Match[str]) -> str:
    run = match["bigrams"]
    if run is None:
        return f" {match['word'] or ''} "
    return f" {' '.join(run[at : at + 2] for at in range(max(1, len(run) - 1)))} "


def estimate_tokens(text: str) -> int:
    """Return an estimate of the number of tokens in `text`, on the high side.

    On the chunks of a report and a speech the estimate is 1.0 to 1.3 times the count of all-MiniLM-L6-v2's tokenizer.
    """
    return max(sum(map(_word_tokens.__getitem__, text.split())), len(text) // MAX_CHARS_PER_TOKEN)


def _tokens_of_word(word: str) -> int:
    count = 0
    for token in _TOKEN.finditer(word):
        first, size = token[0][0], len(token[0])
        if first.isdigit():
            count += -(-size // _DIGITS_PER_TOKEN)
        else:
            count += -(-size // _LETTERS_PER_TOKEN) if first.isalpha() else 1
    return count


class _WordTokens(dict[str, int]):
    """The counts of words: the same words return in every text, and most of them are short."""

    def __missing__(self, word: str) -> int:
        count = _tokens_of_word(word)
        if len(word) <= _SHORT_WORD:
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = count
        return count


_word_tokens = _WordTokens()


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the start and end offsets of each sentence in `text[start:end]`, without surrounding white space."""
    end = len(text) if end is None else end
    begin = start
    first = start - 1 if start and text[start - 1] in _SENTENCE_MARKS else start
    for match in _SENTENCE_END.finditer(text, first, end):
        after_mark = match.start() + 1
        head = text[max(begin, after_mark - _LONGEST_ABBREVIATION) : after_mark]
        if "\n" not in match[0] and _ABBREVIATION.search(head):
            continue
        yield from _trimmed_span(text, begin, match.end())
        begin = match.end()
    yield from _trimmed_span(text, begin, end)


def _trimmed_span(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the span without surrounding white space; nothing for a blank span."""
    span = text[start:end]
    if trimmed := span.strip():
        begin = start + span.index(trimmed)
        yield begin, begin + len(trimmed)
