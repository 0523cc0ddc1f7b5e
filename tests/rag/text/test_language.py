"""The language of a question decides the language of the service's own sentences."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from rag.text import language as detection
from rag.text.language import are_in_different_languages, content_words, phrases
from rag.text.phrases import PHRASES
from rag.text.stop_words import CONNECTIVES, FUNCTION_WORDS, QUESTION_WORDS, REFERENCE_WORDS, STOP_WORDS
from tests.support.tables import each

QUESTIONS = {
    "en": ("How long does the battery last?", "Do I need a receipt?", "Tell me about charging", "lamp", ""),
    "de": ("Wie lange hält der Akku?", "Erklären Sie mir bitte die Garantie"),
    "fr": ("Combien de temps dure la batterie ?", "Quelle est la hauteur de la tour ?"),
    "es": ("¿Cuánto dura la batería?", "¿Cuál es la altura de la torre?"),
    "it": ("Quanto dura la batteria?", "Qual è l’altezza della torre?"),
    "pt": ("Quanto tempo dura a bateria?", "Qual é a altura da torre?"),
    "nl": ("Hoe lang gaat de batterij mee?", "Wat is de hoogte van de toren?"),
    "sv": ("Hur länge räcker batteriet?", "Vad är tornets höjd?"),
    "da": ("Hvor længe holder batteriet?", "Hvad er tårnets højde?"),
    "pl": ("Jak długo działa bateria?", "Jaka jest wysokość wieży?"),
    "cs": ("Jak dlouho vydrží baterie?", "Jaká je výška věže?"),
    "tr": ("Pil ne kadar dayanır?", "Kulenin yüksekliği nedir?"),
    "ru": ("Сколько держится батарея?", "Какова высота башни?", "Что такое Wi-Fi?"),
    "uk": ("Скільки тримає батарея?", "Яка висота вежі?"),
    "ja": ("電池はどのくらい持ちますか", "iPhone Pro Maxの電池は?"),
    "zh": ("电池可以用多久?", "这座塔有多高?"),
    "ko": ("배터리는 얼마나 오래 가나요?", "탑의 높이는 얼마인가요?"),
    "ar": ("كم تدوم البطارية؟", "ما ارتفاع البرج؟"),
}


@each("language", list(QUESTIONS))
def test_the_language_of_a_question_is_recognized(language: str) -> None:
    for question in QUESTIONS[language]:
        assert phrases(question) == PHRASES[language], question


def test_every_language_has_phrases_and_word_lists() -> None:
    assert PHRASES.keys() == QUESTION_WORDS.keys() == REFERENCE_WORDS.keys() == CONNECTIVES.keys() == QUESTIONS.keys()
    assert FUNCTION_WORDS.keys() < PHRASES.keys()
    for phrase in PHRASES.values():
        assert phrase.nothing_found
        assert phrase.quoted


@each(
    "question",
    [
        "Who is Владимир Путин?",
        "What does 東京 mean?",
        "Is 서울 a big city?",
        "Тоо канча? Көл өң",
        "این چیست؟",
        "Γιατί;",
    ],
)
def test_names_in_another_script_and_unsupported_languages_get_english(question: str) -> None:
    assert phrases(question) == PHRASES["en"]


def test_content_words_are_listed_once_and_as_written() -> None:
    assert content_words("Which Wi-Fi does the Lamp need, and which IP67 lamp?") == ["Wi-Fi", "Lamp", "IP67", "lamp"]


def test_texts_in_different_scripts_are_in_different_languages() -> None:
    english = "The lamp is charged with the cable that is in the box."
    assert are_in_different_languages("Лампа заряжается кабелем из коробки.", english)
    assert not are_in_different_languages("Лампа заряжается кабелем.", "Батарея держится девять часов.")
    assert not are_in_different_languages("The lamp is green.", english)


WORDS = st.sampled_from(
    [*sorted(word for words in STOP_WORDS.values() for word in words), "lamp", "ß", "å", "ў", "文", "カ"]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(st.one_of(WORDS, WORDS.map(str.upper)), max_size=12).map(" ".join))


def count_words(text: str) -> dict[str, int]:
    """Return how many words of a text indicate each language, one language after the other."""
    lower = text.lower()
    counts = {
        code: sum(word in FUNCTION_WORDS.get(code, ()) for word in re.findall(r"[^\W\d_]+", lower)) for code in PHRASES
    }
    for code, letters in detection._DISTINCT_LETTERS.items():
        counts[code] += bool(letters.search(lower))
    for script, word in detection._WORD_IN_SCRIPT.items():
        if language := detection._language_of_script(script, lower):
            counts[language] = len(word.findall(lower))
    return counts


@given(text=TEXTS, other=TEXTS)
def test_languages_are_the_same_as_with_one_count_for_each_language(text: str, other: str) -> None:
    counts, others = count_words(text), count_words(other)
    words = set(re.findall(r"[^\W\d_]+", text.lower()))
    expected = max(counts, key=lambda code: (counts[code], code == "en", len(words & STOP_WORDS[code])))
    assert phrases(text) == PHRASES[expected]
    mine, theirs = (max(found, key=lambda code: (found[code], code == "en")) for found in (counts, others))
    assert are_in_different_languages(text, other) == (
        counts[mine] > counts[theirs] + 1 and others[theirs] > others[mine] + 1
    )


def test_the_language_of_a_long_text_is_recognized() -> None:
    assert phrases("der Turm und das Haus " * 1_000) == PHRASES["de"]
