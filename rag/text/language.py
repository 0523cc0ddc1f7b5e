"""Which language a question is in: for what the program says by itself, and for the words that only ask."""

from __future__ import annotations

import re

from rag.text.phrases import PHRASES, Phrases
from rag.text.stop_words import ASKING, GOING_ON, REFERRING, TELLING

_WORD = re.compile(r"[^\W\d_]+")
_KANA = re.compile(r"[\u3041-\u309f\u30a0-\u30ff]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# Words, but for Chinese and Japanese, where they do not stand apart: of their characters three make about one.
_OF_SCRIPT = {
    "ja": re.compile(r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{1,3}"),
    "ko": re.compile(r"[\u1100-\u11ff\uac00-\ud7af]+"),
    "ru": re.compile(r"[\u0400-\u04ff]+"),
    "ar": re.compile(r"[\u0620-\u065f\u0670-\u06d3]+"),
}
# Letters that Russian has not, and those that neither Ukrainian nor Russian has; the same for Arabic.
_UKRAINIAN = re.compile(r"[іїєґ]")
_OTHER_CYRILLIC = re.compile(r"[ўјљњћђџѓќѕәғқңөұүһ]")
_OTHER_ARABIC = re.compile(r"[پچژگکیےںٹڈڑ]")
# Letters that, of the languages written in Latin letters, only these have.
_LETTERS = {
    "de": re.compile(r"ß"),
    "es": re.compile(r"[ñ¿¡]"),
    "pt": re.compile(r"[ãõ]"),
    "sv": re.compile(r"[å]"),
    "da": re.compile(r"[æø]"),
    "pl": re.compile(r"[ąęłńśźż]"),
    "cs": re.compile(r"[ěřůčšž]"),
    "tr": re.compile(r"[ğış]"),
}
_TELLING_WORDS = {language: frozenset(words.split()) for language, words in TELLING.items()}
_REFERRING_WORDS = {language: frozenset(words.split()) for language, words in REFERRING.items()}
_GOING_ON_WORDS = {language: frozenset(words.split()) for language, words in GOING_ON.items()}
_ASKING_WORDS = {
    language: frozenset(words.split())
    | _TELLING_WORDS.get(language, frozenset())
    | _REFERRING_WORDS[language]
    | _GOING_ON_WORDS[language]
    for language, words in ASKING.items()
}
_GOING_ON_PHRASE = re.compile(r"\s*(?:what|how) about\b", re.IGNORECASE)
# A question of so few words, with one of its own at most, leans on the one before it; so does one that refers to
# something and has no more words of its own than this.
SHORT_QUESTION = 3
FEW_OWN = 3
# A word of a question as it is told to its reader, with figures and hyphens.
_SAID_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")


def phrases(question: str) -> Phrases:
    """Return the sentences in the question's language; English when it cannot be told."""
    return PHRASES[_language(question)]


def stop_words(question: str) -> frozenset[str]:
    """Return the words of the question's language that say nothing of what is asked about, in lower case."""
    return _ASKING_WORDS[_language(question)]


def function_words(text: str) -> frozenset[str]:
    """Return the small words that tell the text's language from others, in lower case; none of one told by letters."""
    return _TELLING_WORDS.get(_language(text), frozenset())


def capitalizes_nouns(text: str) -> bool:
    """Tell whether a text is in a language that writes every noun with a capital, so that one is no sign of a name."""
    return _language(text) == "de"


def content_words(question: str) -> list[str]:
    """Return the words of a question that say what it is about, each once, as they are written."""
    asking = stop_words(question)
    return [word for word in dict.fromkeys(_SAID_WORD.findall(question)) if word.lower() not in asking]


def is_follow_up(question: str) -> bool:
    """Tell whether a question is understood only with the one before it: it refers to it, goes on, or says little."""
    language = _language(question)
    words = [word.lower() for word in _SAID_WORD.findall(question)]
    if not words or _GOING_ON_PHRASE.match(question):
        return True
    if not PHRASES[language].missing:  # no spaces between words
        return question.strip().startswith(tuple(_GOING_ON_WORDS[language])) or any(
            word in question for word in _REFERRING_WORDS[language]
        )
    own = len(content_words(question))
    refers = not _REFERRING_WORDS[language].isdisjoint(words)
    goes_on = words[0] in _GOING_ON_WORDS[language]
    return goes_on or not own or (refers and own <= FEW_OWN) or (own == 1 and len(words) <= SHORT_QUESTION)


def are_in_different_languages(one: str, other: str) -> bool:
    """Tell whether two texts are surely of different languages: each has its own's words, and more than the other's."""
    first, second = _counts(one), _counts(other)
    mine, theirs = _most(first), _most(second)
    return first[mine] > first[theirs] + 1 and second[theirs] > second[mine] + 1


def _language(question: str) -> str:
    """Return the language of a question; its words of asking decide between two that fit alike."""
    counts = _counts(question)
    words = set(_WORD.findall(question.lower()))
    return max(counts, key=lambda one: (counts[one], one == "en", len(words & _ASKING_WORDS[one])))


def _counts(text: str) -> dict[str, int]:
    """Return how many words of a text speak for each language: small words of it, or words in its letters."""
    lower = text.lower()
    words = _WORD.findall(lower)
    counts = {language: sum(word in telling for word in words) for language, telling in _TELLING_WORDS.items()}
    counts |= dict.fromkeys(PHRASES.keys() - counts.keys(), 0)
    if lower.isascii():
        return counts
    for language, own in _LETTERS.items():
        counts[language] += bool(own.search(lower))
    for script, letters in _OF_SCRIPT.items():
        if written := _of_script(script, lower):
            counts[written] = len(letters.findall(lower))
    return counts


def _of_script(script: str, lower: str) -> str | None:
    """Return the language that is meant by the letters of a script in this text, None when it is none of ours."""
    if script == "ja":
        return "ja" if _KANA.search(lower) else "zh" if _HAN.search(lower) else None
    if script == "ru":
        return None if _OTHER_CYRILLIC.search(lower) else "uk" if _UKRAINIAN.search(lower) else "ru"
    if script == "ar":
        return None if _OTHER_ARABIC.search(lower) else "ar"
    return script


def _most(counts: dict[str, int]) -> str:
    return max(counts, key=lambda language: (counts[language], language == "en"))


# Words that say in these languages that something is not so.
_DENIALS = {
    "en": "not no never cannot none nor neither nobody nothing",
    "de": "nicht kein keine keinen keinem keiner keines nie niemals nichts niemand weder",
    "fr": "pas aucun aucune jamais rien ni",
    "es": "no nunca ningún ninguno ninguna jamás nada ni",
    "it": "non nessun nessuno nessuna mai nulla niente né",
    "pt": "não nunca nenhum nenhuma jamais nada nem",
    "nl": "niet geen nooit niets niemand noch",
}


def negation_words(text: str) -> frozenset[str]:
    """Return the words by which the text's language denies, in lower case; none where none are known of it."""
    return frozenset(_DENIALS.get(_language(text), "").split())
