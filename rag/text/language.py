"""The language of a text, and the words and sentences that depend on it."""

from __future__ import annotations

import re

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
    counts, other_counts = _words_by_language(text), _words_by_language(other)
    language, other_language = _most_frequent(counts), _most_frequent(other_counts)
    return counts[language] > counts[other_language] + 1 and other_counts[other_language] > other_counts[language] + 1


def _language(text: str) -> str:
    """Return the code of the text's language. English wins a tie, then the language with more of its stop words."""
    counts = _words_by_language(text)
    words = set(_WORD.findall(text.lower()))
    return max(counts, key=lambda code: (counts[code], code == "en", len(words & STOP_WORDS[code])))


def _words_by_language(text: str) -> dict[str, int]:
    """Return for each language how many words of the text indicate it: its function words, or words in its script."""
    lower = text.lower()
    words = _WORD.findall(lower)
    counts = {language: sum(word in known for word in words) for language, known in FUNCTION_WORDS.items()}
    counts |= dict.fromkeys(PHRASES.keys() - counts.keys(), 0)
    if lower.isascii():
        return counts
    for language, letters in _DISTINCT_LETTERS.items():
        counts[language] += bool(letters.search(lower))
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


def _most_frequent(counts: dict[str, int]) -> str:
    return max(counts, key=lambda language: (counts[language], language == "en"))
