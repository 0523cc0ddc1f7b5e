"""What a question is about, and whether a text speaks of it."""

from __future__ import annotations

import pytest

from client.bm25 import Lexicon
from rag.relevance import RELEVANT, Wanted, content_terms, own_terms

TERMS = Lexicon().terms
LENS = "Clean the lens with a soft damp cloth. Do not use alcohol."
CHARGE = "A full charge takes three hours. The ring turns green."


def wanted(question: str, *texts: str, own: str | None = None) -> Wanted:
    """Return the terms of a question over these texts: a term is the rarer the fewer of them hold it."""
    held = [TERMS(text) for text in texts]
    rarity = {term: len(texts) / sum(term in one for one in held) for one in held for term in one}
    terms = content_terms(question, TERMS)
    return Wanted(terms, {term: rarity[term] for term in terms & rarity.keys()}, own=own_terms(own, TERMS))


def relevant(question: str, text: str, *others: str, own: str | None = None) -> bool:
    return wanted(question, text, *others, own=own).relevance(text, TERMS) > RELEVANT


@pytest.mark.parametrize(
    ("question", "about"),
    [
        ("How many lumens?", "lumens"),
        ("What cable do I need?", "cable"),
        ("Which cable is needed?", "cable"),
        ("Tell me about charging", "charging"),
        ("Could you please explain the guarantee?", "guarantee"),
        ("For how long are spare parts available?", "spare"),
        ("I want to know what levels of brightness there are", "brightness"),
        ("Könnten Sie mir bitte die Garantie erklären?", "Garantie"),
        ("Wie viele Lumen?", "Lumen"),
        ("Pourriez-vous expliquer la garantie ?", "garantie"),
        ("Podría explicar la garantía, por favor?", "garantía"),
        ("Сколько люменов?", "люменов"),
    ],
)
def test_words_of_asking_are_no_part_of_what_is_asked_about(question: str, about: str) -> None:
    assert content_terms(question, TERMS) == TERMS(about)


def test_a_question_of_nothing_but_words_of_asking_keeps_them() -> None:
    assert content_terms("What is needed?", TERMS) == TERMS("needed")


def test_a_word_that_stands_nowhere_does_not_refuse_what_holds_the_others_together() -> None:
    assert relevant("Which soft tissue cleans the lens?", LENS, CHARGE)
    assert not relevant("Which tissue cleans a telescope?", LENS, CHARGE)
    assert not relevant("Which telescope?", LENS, CHARGE)


def test_words_far_apart_are_less_than_words_close_together() -> None:
    apart = "The lens is round. Rain fell. It fell again. The night was dark. A cloth hung there."
    question = wanted("lens cloth", LENS, apart)
    assert question.relevance(LENS, TERMS) > question.relevance(apart, TERMS) > 0


def test_a_short_question_without_its_rarest_word_is_about_something_else() -> None:
    wage = "We raise the minimum wage. Every worker has a right to a decent living."
    others = ("The minimum wage rose.", "A minimum was set for each wage.", "Sweden joined the alliance.")
    assert relevant("What is the minimum wage?", wage, *others)
    assert not relevant("What is the minimum wage in Sweden?", wage, *others)


def test_a_follow_up_is_answered_by_what_speaks_of_its_own_words_only() -> None:
    assert relevant("And the ring? full charge", CHARGE, LENS, own="And the ring?")
    assert not relevant("And the moon? full charge", CHARGE, LENS, own="And the moon?")
    assert not relevant("And the moon? lens cloth", LENS, own="And the moon?")
    assert relevant("And when? full charge", CHARGE, LENS, own="And when?")
    # What answers it alone is not spoilt by the words added.
    assert relevant("How green? lens soft damp cloth alcohol", CHARGE, LENS, own="How green?")
