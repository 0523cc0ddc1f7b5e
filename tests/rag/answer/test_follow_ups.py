"""Follow-up questions without a model: which questions are follow-ups, and the words that they gain."""

from __future__ import annotations

import asyncio

from rag.answer.follow_ups import rewrite_follow_up
from schemas import Turn
from tests.support.tables import each


def conversation(*questions: str) -> list[str]:
    turns: list[Turn] = []
    asked = []
    for n, question in enumerate(questions):
        asked.append(asyncio.run(rewrite_follow_up(question, turns, None)))
        turns.append(Turn(job_id=f"j{n}", question=question, answer="…"))
    return asked


def test_without_a_model_only_a_follow_up_gains_the_words_of_the_last_question() -> None:
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


@each(
    "question, is_follow_up",
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
def test_follow_ups_are_recognised_in_other_languages(question: str, is_follow_up: bool) -> None:
    last = "Turmhöhe"
    asked = asyncio.run(rewrite_follow_up(question, [Turn(job_id="j", question=last, answer="…")], None))
    assert asked == (f"{question} {last}" if is_follow_up else question)
