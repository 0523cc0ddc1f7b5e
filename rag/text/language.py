"""The language of a text, and the words and sentences that depend on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from rag.text.phrases import PHRASES, Phrases
from rag.text.stop_words import CONNECTIVES, FUNCTION_WORDS, NEGATION_WORDS, REFERENCE_WORDS, STOP_WORDS

_WORD = re.compile(r"[^\W\d_]+")
_KANA = re.compile(r"[\u3041-\u309f\u30a0-\u30ff]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# Matches one word in each script. Chinese and Japanese put no spaces between words; there about three characters make
# a word.
_WORD_IN_SCRIPT = {
    "ja": re.compile(r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{1,3}"),
    "ko": re.compile(r"[\u1100-\u11ff\uac00-\ud7af]+"),
    "ru": re.compile(r"[\u0400-\u04ff]+"),
    "ar": re.compile(r"[\u0620-\u065f\u0670-\u06d3]+"),
}
# Letters that Ukrainian has and Russian lacks, letters that both lack, and letters that Arabic lacks.
_UKRAINIAN = re.compile(r"[іїєґ]")
_OTHER_CYRILLIC = re.compile(r"[ўјљњћђџѓќѕәғқңөұүһ]")
_OTHER_ARABIC = re.compile(r"[پچژگکیےںٹڈڑ]")
# Letters that only one of the languages in Latin letters has.
_DISTINCT_LETTERS = {
    "de": re.compile(r"ß"),
    "es": re.compile(r"[ñ¿¡]"),
    "pt": re.compile(r"[ãõ]"),
    "sv": re.compile(r"[å]"),
    "da": re.compile(r"[æø]"),
    "pl": re.compile(r"[ąęłńśźż]"),
    "cs": re.compile(r"[ěřůčšž]"),
    "tr": re.compile(r"[ğış]"),
}
_LANGUAGES = tuple(PHRASES)  # in the order that breaks a tie
_LANGUAGES_BY_WORD = {
    word: tuple(language for language, known in FUNCTION_WORDS.items() if word in known)
    for word in frozenset[str]().union(*FUNCTION_WORDS.values())
}
# The languages of the last texts are kept, 1 MB for sentences and 17 MB at most; a longer text is read again each time.
_CACHED_TEXTS = 1024
_MAX_CACHED_CHARS = 4000
_ALL_NEGATION_WORDS = frozenset[str]().union(*NEGATION_WORDS.values())
_WORD_PART = re.compile(r"[^\W_]+")
_WHAT_ABOUT = re.compile(r"\s*(?:what|how) about\b", re.IGNORECASE)
# A question of at most this many words, with at most one content word, is a follow-up.
MAX_FRAGMENT_WORDS = 3
# A question with a reference word, such as "it", is a follow-up if it has at most this many content words.
MAX_CONTENT_WORDS = 3
# A word as a reader sees it, with digits, hyphens and apostrophes.
_WRITTEN_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")


def phrases(question: str) -> Phrases:
    """Return the sentences of the service in the question's language; in English when the language is unknown."""
    return PHRASES[_language(question)]


def stop_words(question: str) -> frozenset[str]:
    """Return the stop words of the question's language, in lower case."""
    return STOP_WORDS[_language(question)]


def function_words(text: str) -> frozenset[str]:
    """Return the function words of the text's language, in lower case; empty for scripts other than Latin."""
    return FUNCTION_WORDS.get(_language(text), frozenset())


def negation_words(text: str) -> frozenset[str]:
    """Return the words that negate in the text's language, in lower case; empty for a language without a list."""
    return NEGATION_WORDS.get(_language(text), frozenset())


def may_negate(lower: str) -> bool:
    """Return True if a word of a text in lower case, or a part of a word, negates in any language."""
    return not _ALL_NEGATION_WORDS.isdisjoint(_WORD_PART.findall(lower))


def capitalizes_nouns(text: str) -> bool:
    """Return True if the text's language capitalizes every noun, so that a capital does not indicate a name."""
    return _language(text) == "de"


def content_words(question: str) -> list[str]:
    """Return the words of a question that are not stop words, each once, as written."""
    stops = stop_words(question)
    return [word for word in dict.fromkeys(_WRITTEN_WORD.findall(question)) if word.lower() not in stops]


def is_follow_up(question: str) -> bool:
    """Return True if a question is understood only together with the question before it.

    A follow-up begins with a connective, refers to something mentioned before, or has hardly any content words.
    """
    language = _language(question)
    words = [word.lower() for word in _WRITTEN_WORD.findall(question)]
    if not words or _WHAT_ABOUT.match(question):
        return True
    if not PHRASES[language].missing:  # a language without spaces between words
        return question.strip().startswith(tuple(CONNECTIVES[language])) or any(
            word in question for word in REFERENCE_WORDS[language]
        )
    if words[0] in CONNECTIVES[language]:
        return True
    content = len(content_words(question))
    refers = not REFERENCE_WORDS[language].isdisjoint(words)
    return (
        not content or (refers and content <= MAX_CONTENT_WORDS) or (content == 1 and len(words) <= MAX_FRAGMENT_WORDS)
    )


def are_in_different_languages(text: str, other: str) -> bool:
    """Return True if two texts are certainly in different languages.

    In each text, at least two more words indicate its own language than indicate the other text's language.
    """
    first, second = _detect(text), _detect(other)
    language, other_language = _most_frequent(first.counts), _most_frequent(second.counts)
    return (
        first.counts.get(language, 0) > first.counts.get(other_language, 0) + 1
        and second.counts.get(other_language, 0) > second.counts.get(language, 0) + 1
    )


class _Detected(NamedTuple):
    """The code of a text's language, and for each language how many words of the text indicate it, if any do."""

    language: str
    counts: Mapping[str, int]


def _language(text: str) -> str:
    return _detect(text).language


def _detect(text: str) -> _Detected:
    """Return the language of a text. English wins a tie, then the language with more of its stop words."""
    return _detect_cached(text) if len(text) <= _MAX_CACHED_CHARS else _detect_uncached(text)


def _detect_uncached(text: str) -> _Detected:
    counts = _words_by_language(text)
    top = max(counts.values(), default=0)
    if counts.get("en", 0) == top:
        return _Detected("en", counts)
    tied = [language for language in _LANGUAGES if counts.get(language, 0) == top]
    if len(tied) > 1:
        words = set(_WORD.findall(text.lower()))
        tied.sort(key=lambda language: len(words & STOP_WORDS[language]), reverse=True)
    return _Detected(tied[0], counts)


# A check of an answer asks about the same clauses and sentences 900 times; about 300 of them differ.
_detect_cached = lru_cache(maxsize=_CACHED_TEXTS)(_detect_uncached)


def _words_by_language(text: str) -> dict[str, int]:
    """Return how many words of the text indicate each language: its function words, or words in its script.

    A language that no word indicates is missing.
    """
    lower = text.lower()
    counts: dict[str, int] = {}
    for word in _WORD.findall(lower):
        for language in _LANGUAGES_BY_WORD.get(word, ()):
            counts[language] = counts.get(language, 0) + 1
    if lower.isascii():
        return counts
    for language, letters in _DISTINCT_LETTERS.items():
        if letters.search(lower):
            counts[language] = counts.get(language, 0) + 1
    for script, word_in_script in _WORD_IN_SCRIPT.items():
        if language_of_script := _language_of_script(script, lower):
            counts[language_of_script] = len(word_in_script.findall(lower))
    return counts


def _language_of_script(script: str, lower: str) -> str | None:
    """Return the language that a text in this script is written in; None for a language without phrases."""
    if script == "ja":
        return "ja" if _KANA.search(lower) else "zh" if _HAN.search(lower) else None
    if script == "ru":
        return None if _OTHER_CYRILLIC.search(lower) else "uk" if _UKRAINIAN.search(lower) else "ru"
    if script == "ar":
        return None if _OTHER_ARABIC.search(lower) else "ar"
    return script


def _most_frequent(counts: Mapping[str, int]) -> str:
    """Return the language with the highest count. English wins a tie, then the first of _LANGUAGES."""
    top = max(counts.values(), default=0)
    return "en" if counts.get("en", 0) == top else next(code for code in _LANGUAGES if counts.get(code, 0) == top)
