"""Whether the text of a page is language, or the output of a font without a true map to Unicode."""

from __future__ import annotations

import re
from bisect import bisect_right

# A page is illegible with this share of characters that no text holds.
MAX_BAD_SHARE = 0.15
# Below this share of common pairs of letters, words are gibberish. Measured on the Declaration of Human Rights in 36
# languages that write with these letters: samples of 200 characters have 0.45 and more, the same samples with their
# letters exchanged 0.18 on average and 0.31 at most for nine of ten.
MIN_COMMON_SHARE = 0.32
MIN_PAIRS = 150
# Shorter texts are judged from so many pairs on, by a smaller share: of 8,700 parts of pages with 50 to 149 pairs
# one had less than 0.4, and none less than 0.29; of the same with their letters exchanged half have less than this.
MIN_SHORT_PAIRS, MIN_SHORT_SHARE = 50, 0.22
# Korean of so many syllables has this share of common ones: sentences have 0.5 and more, lists of names and goods 0.4,
# the same sentences with all syllables moved by as many places 0.02 on average.
MIN_SYLLABLES, MIN_COMMON_SYLLABLES = 40, 0.2
MIN_ASCII_SHARE = 0.9
JUDGED_CHARS = 3_000
# A text with so many different words of these is language: to see that takes a tenth of the time.
MIN_FUNCTION_WORDS = 4
# Most texts have them so early.
_FIRST_CHARS = 600
_FUNCTION_WORDS = frozenset(
    (
        *("the", "of", "and", "to", "in", "is", "for", "that", "with", "on", "as", "are", "by", "be", "at"),
        *("or", "from", "this", "der", "die", "das", "und", "ist", "nicht", "mit", "für", "von", "den", "im"),
        *("le", "la", "les", "et", "des", "une", "est", "pour", "dans", "que", "el", "los", "las", "por", "con"),
        *("una", "para", "il", "di", "che", "per", "della", "het", "een", "van", "dat", "och", "att", "som"),
        *("det", "på", "og", "til", "av", "jest", "się", "nie", "na", "do", "że"),
    )
)
# Controls, the replacement character, noncharacters, and private areas, where only the font knows the meaning.
_BAD = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ufffd-\uffff\ufdd0-\ufdef\ue000-\uf8ff\U000f0000-\U0010ffff]")
_BAD_RUN = re.compile(rf"({_BAD.pattern})\1{{2,}}")
# Letters of scripts of which no language writes two in a word, from Armenian to Georgian, by where each begins.
_SCRIPTS = re.compile("[\u0530-\u10ff]")
_STARTS = (*(0x530, 0x590, 0x600, 0x780, 0x860, *range(0x900, 0xF00, 0x80)), 0xF00, 0x1000, 0x10A0)
_MORE_ARABIC, _ARABIC = 5, 3
# A page of words in these scripts is illegible if this share of so many words mixes them.
_MAX_MIXED_SHARE, _MIN_WORDS = 0.1, 20
# Letters with signs between them or capitals within, figures within words, and signs that stand alone.
_MISREAD = re.compile(
    r"[^\W\d_][*^~|«»\\<>{};&$#@%!?=_§©®]+[^\W_]|[a-z][A-Z]+[a-z]|[^\W\d_]\d+[^\W\d_]|(?<!\S)[*^~|«»\\<>{};§©®_]+(?!\S)"
)
_MISREAD_SIGNS, _MISREAD_SIGNS_PER_WORD = "*^~|«»\\<>{}", 50
# One for each first sign: a pattern that begins with a sign is found in a tenth of the time.
_GLYPH_NAMES = (re.compile(r"\(cid:\d+\)"), re.compile(r"/(?:g\d{1,5}\b|[A-Z]\d{1,3}(?=/))"))
_WORD = re.compile(r"[^\W\d_]{3,}")
# The 150 most common pairs of neighbouring letters of 19 languages, each language with the same weight.
_PAIRS = (
    "aaabacadagaiakalamanarasatauavbabebibocechcicodadedidodueaecedeeegeiekelemeneresetgagegiguhahehihohthuiaicidieigij"
    "ikiliminioirisitjajejokakekikokulalelilllolulámamemimomunandnengninnnonsntnyníocodogolomonoporosotovpapepoprrardre"
    "rirorsrtrusasesisksostsutatethtitotrtttuuiulumunurusutvavevivowaweyazaze"
)
_COMMON = frozenset(_PAIRS[at : at + 2] for at in range(0, len(_PAIRS), 2))
_HANGUL = re.compile("[\uac00-\ud7a3]+")
_COMMON_SYLLABLES = frozenset(
    "이다는에의을가고하지로한사도를은서기나아어자리대인그시있들해과정일수으것전라만부게스보제여적장구주상면원오안내우성"
    "조공마미모동소년경니드신요세관무선방문용야위치계진분학생했았었며습등국물행중회와까실법화연된되려권할없음당"
)


def is_legible(text: str) -> bool:
    """Return False for a text that is mostly characters without meaning, or gibberish. An empty text is legible."""
    if _may_have_bad(text):
        text = _without_leaders(text)
    bad = len(_BAD.findall(text)) if _may_have_bad(text) else 0
    bad += sum(len(name) for pattern in _GLYPH_NAMES for name in pattern.findall(text))
    if bad and bad > MAX_BAD_SHARE * sum(map(len, text.split())):
        return False
    if not text.isascii() and (_mixes_scripts(text[:JUDGED_CHARS]) or _has_odd_hangul(text)):
        return False
    return any(_has_function_words(part) for part in (text[:_FIRST_CHARS], text)) or not _is_gibberish(
        text[:JUDGED_CHARS]
    )


def misread_share(text: str) -> float:
    """Return the share of words with signs that poor OCR puts into and between words; 0 where few such signs are."""
    text = text[:JUDGED_CHARS]
    if _MISREAD_SIGNS_PER_WORD * sum(map(text.count, _MISREAD_SIGNS)) < text.count(" "):
        return 0.0
    words = len(text.split())
    return len(_MISREAD.findall(text)) / words if words >= _MIN_WORDS else 0.0


def _may_have_bad(text: str) -> bool:
    """Return False if a text has no bad character: the search for each of them takes five times as long."""
    return "\ufffd" in text or not text.replace("\n", "").isprintable()


def _without_leaders(text: str) -> str:
    """Return a text without runs of one bad character, such as the dots of a list of contents, among more letters."""
    left = _BAD_RUN.sub("", text)
    return left if sum(map(str.isalpha, left)) > len(text) - len(left) else text


def _mixes_scripts(text: str) -> bool:
    """Return True if words hold letters of several scripts, as those of a font with a wrong map do."""
    if not _SCRIPTS.search(text):
        return False
    words = mixed = 0
    for word in text.split():
        scripts = {bisect_right(_STARTS, ord(char)) for char in _SCRIPTS.findall(word) if char.isalpha()}
        words += bool(scripts)
        mixed += len(scripts) - ({_ARABIC, _MORE_ARABIC} <= scripts) > 1
    return words >= _MIN_WORDS and mixed > _MAX_MIXED_SHARE * words


def _has_odd_hangul(text: str) -> bool:
    """Return True for Hangul that is mostly syllables which Korean seldom has."""
    if not _HANGUL.search(text[:_FIRST_CHARS]):
        return False
    syllables = "".join(_HANGUL.findall(text[:JUDGED_CHARS]))
    common = sum(map(_COMMON_SYLLABLES.__contains__, syllables))
    return len(syllables) >= MIN_SYLLABLES and common < MIN_COMMON_SYLLABLES * len(syllables)


def _has_function_words(text: str) -> bool:
    return len(_FUNCTION_WORDS.intersection(text.split())) >= MIN_FUNCTION_WORDS


def _is_gibberish(text: str) -> bool:
    """Return True for words of Latin letters that no language has. Short texts and other scripts are not judged."""
    words = [word.lower() for word in _WORD.findall(text) if word[1:].islower() or word.isupper()]
    letters = "".join(words)
    if not letters or sum(1 for char in letters if char.isascii()) < MIN_ASCII_SHARE * len(letters):
        return False
    pairs = [word[at : at + 2] for word in words for at in range(len(word) - 1)]
    least = MIN_COMMON_SHARE if len(pairs) >= MIN_PAIRS else MIN_SHORT_SHARE
    return len(pairs) >= MIN_SHORT_PAIRS and sum(map(_COMMON.__contains__, pairs)) < least * len(pairs)
