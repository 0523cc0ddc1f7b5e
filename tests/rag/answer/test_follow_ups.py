"""Follow-up questions without a model: which lean on the one before, and what they gain by it."""

from __future__ import annotations

import pytest

from rag.answer.follow_ups import standalone
from schemas import Turn


def conversation(*questions: str) -> list[str]:
    turns: list[Turn] = []
    asked = []
    for n, question in enumerate(questions):
        asked.append(standalone(question, turns, None))
        turns.append(Turn(job_id=f"j{n}", question=question, answer="…"))
    return asked


def test_offline_only_a_question_that_leans_on_the_last_one_gains_its_words() -> None:
    assert conversation(
        "Is a power adapter included in the box?",
        "What is the capital of France?",
        "How heavy is the lamp with its battery and its headband?",
        "And when is it full?",
        "What about the headband?",
        "Why?",
    ) == [
        "Is a power adapter included in the box?",
        "What is the capital of France?",
        "How heavy is the lamp with its battery and its headband?",
        "And when is it full? heavy lamp battery headband",
        "What about the headband? heavy lamp battery full",
        "Why? full headband",
    ]


@pytest.mark.parametrize(
    ("question", "leans"),
    [
        ("Und wie lange?", True),
        ("Wie schwer ist sie?", True),
        ("Was ist die Hauptstadt von Frankreich?", False),
        ("Et pourquoi ?", True),
        ("Quelle est la capitale de la France ?", False),
        ("А когда?", True),
        ("Как называется столица Франции?", False),
        ("それはいつですか", True),
        ("フランスの首都はどこですか", False),
        ("Which colour?", True),
        ("?", True),
    ],
)
def test_follow_ups_are_told_in_other_languages(question: str, leans: bool) -> None:
    last = "Turmhöhe"
    asked = standalone(question, [Turn(job_id="j", question=last, answer="…")], None)
    assert asked == (f"{question} {last}" if leans else question)
