"""The language of a question, and the words and sentences that depend on it."""

from __future__ import annotations

import re
from functools import lru_cache

from rag.text.phrases import PHRASES, Phrases
from rag.text.stop_words import CONNECTIVES, REFERENCE_WORDS, STOP_WORDS

try:
    import pycld2
except ImportError:  # there is no package for this machine
    pycld2 = None

# The language with phrases that readers of another one understand best; short texts are also taken for it.
_NEAREST = {
    "no": "da", "nb": "da", "nn": "da", "sk": "cs", "az": "tr", "af": "nl", "lb": "de", "gl": "es", "ca": "es",
    "be": "ru", "zh-Hant": "zh",
}  # fmt: skip
# One word in each of these scripts; about three characters make a word of Chinese or Japanese.
_WORD_IN_SCRIPT = {
    "ja": re.compile(r"[\u3041-\u30ff]{1,3}"),
    "zh": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]{1,3}"),
    "ko": re.compile(r"[\u1100-\u11ff\uac00-\ud7af]+"),
    "ar": re.compile(r"[\u0620-\u065f\u0670-\u06d3]+"),
    "ru": re.compile(r"[\u0400-\u04ff]+"),
}
_UKRAINIAN = re.compile(r"[іїєґ]")
# A longer text is judged by its beginning.
_MAX_CHARS = 4_000
_WHAT_ABOUT = re.compile(r"\s*(?:what|how) about\b", re.IGNORECASE)
# A question of at most this many words, with at most one content word, is a follow-up.
MAX_FRAGMENT_WORDS = 3
# A question with a reference word, such as "it", is a follow-up if it has at most this many content words.
MAX_CONTENT_WORDS = 3
# A word as a reader sees it, with digits, hyphens and apostrophes.
_WRITTEN_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")


def phrases(question: str) -> Phrases:
    """Return the sentences of the service in the question's language; in English when the language is unknown."""
    return PHRASES[language_of(question)]


def stop_words(question: str) -> frozenset[str]:
    """Return the stop words of the question's language, in lower case."""
    return STOP_WORDS[language_of(question)]


def content_words(question: str) -> list[str]:
    """Return the words of a question that are not stop words, each once, as written."""
    stops = stop_words(question)
    return [word for word in dict.fromkeys(_WRITTEN_WORD.findall(question)) if word.lower() not in stops]


def is_follow_up(question: str) -> bool:
    """Return True if a question is understood only together with the question before it.

    A follow-up begins with a connective, refers to something mentioned before, or has hardly any content words.
    """
    language = language_of(question)
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


@lru_cache(maxsize=1024)
def language_of(text: str) -> str:
    """Return the code of a text's language; `en` for a language without phrases.

    Compact Language Detector 2 is asked first. On 67 short questions in 18 languages it is right for 67, the lists of
    stop words for 59; py3langid is right for 66 and takes 61 MB.
    """
    detected = _detect(text[:_MAX_CHARS])
    return detected if detected in PHRASES else "en"


def _detect(text: str) -> str:
    if pycld2 is not None:
        # The detector refuses control characters, surrogates and code points that are none.
        allowed = "".join(char for char in text if char.isprintable())
        reliable, _, [(_, code, _, _), *_] = pycld2.detect(allowed, bestEffort=True, isPlainText=True)
        if reliable:
            return str(_NEAREST.get(code, code))
    return language_by_words(text)


def language_by_words(text: str) -> str:
    """Return the language that the most words indicate: stop words, and words in its script. English wins a tie."""
    lower = text.lower()
    words = _WRITTEN_WORD.findall(lower)
    counts = {code: sum(word in known for word in words) for code, known in STOP_WORDS.items()}
    for code, word_in_script in _WORD_IN_SCRIPT.items():
        counts[code] += len(word_in_script.findall(lower))
    if counts["ja"]:
        counts["ja"] += counts["zh"]
    language = max(counts, key=lambda code: (counts[code], code == "en"))
    return "uk" if language == "ru" and _UKRAINIAN.search(lower) else language
