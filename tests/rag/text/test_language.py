"""The language of a question decides the language of the service's own sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.text import language as detection
from rag.text.language import content_words, phrases
from rag.text.phrases import PHRASES
from rag.text.stop_words import CONNECTIVES, FUNCTION_WORDS, QUESTION_WORDS, REFERENCE_WORDS
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
        assert phrase.cut
        assert phrase.not_answered


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


@each("text", ["", "\x07", "a\ud800b\x00", "\ufffe\uffff", "😀", "E17?"])
def test_a_text_without_a_language_gets_english(text: str) -> None:
    assert phrases(text) == PHRASES["en"]


@given(text=st.text(max_size=60))
def test_any_text_has_a_language(text: str) -> None:
    assert phrases(text) in PHRASES.values()


def test_without_the_detector_words_and_scripts_tell_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "pycld2", None)
    detection.language_of.cache_clear()
    try:
        right = [phrases(text) == PHRASES[language] for language, texts in QUESTIONS.items() for text in texts]
    finally:
        detection.language_of.cache_clear()
    assert sum(right) >= 0.9 * len(right)


def test_the_language_of_a_long_text_is_recognized() -> None:
    assert phrases("der Turm und das Haus " * 1_000) == PHRASES["de"]
