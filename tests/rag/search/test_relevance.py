"""What a question is about, and whether a text speaks of it."""

from __future__ import annotations

import pytest

from client.qdrant.bm25 import Bm25Encoder
from rag.search.relevance import RELEVANT, QueryTerms, content_terms, own_terms

TERMS = Bm25Encoder().terms
LENS = "Clean the lens with a soft damp cloth. Do not use alcohol."
CHARGE = "A full charge takes three hours. The ring turns green."


def wanted(question: str, *texts: str, own: str | None = None) -> QueryTerms:
    """Return the terms of a question over these texts: a term is the rarer the fewer of them hold it."""
    held = [TERMS(text) for text in texts]
    rarity = {term: len(texts) / sum(term in one for one in held) for one in held for term in one}
    terms = content_terms(question, TERMS)
    return QueryTerms(terms, {term: rarity[term] for term in terms & rarity.keys()}, own=own_terms(own, TERMS))


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


CHINESE = (
    "本产品保修期为两年。充电时间为三小时。充电完成后，指示灯变为绿色。",
    "员工每周最多可以在家工作三天，须经主管批准。",
)
JAPANESE = (
    "保証期間は購入日から2年間です。充電には3時間かかります。",
    "社員は上司の承認を得て、週3日まで在宅勤務ができます。",
)
KOREAN = (
    "보증 기간은 구매일로부터 2년입니다. 충전에는 세 시간이 걸립니다.",
    "직원은 승인을 받아 재택근무를 할 수 있습니다.",
)


@pytest.mark.parametrize(
    ("question", "texts", "is_relevant"),
    [
        ("保修期多长？", CHINESE, True),
        ("充电需要多长时间？", CHINESE, True),
        ("指示灯是什么颜色？", CHINESE, True),
        ("食堂几点开门？", CHINESE, False),
        ("巴黎的天气怎么样？", CHINESE, False),
        ("保証期間はどのくらいですか？", JAPANESE, True),
        ("充電時間は？", JAPANESE, True),
        ("価格はいくらですか？", JAPANESE, False),
        ("보증 기간이 얼마나 되나요?", KOREAN, True),
        ("가격은 얼마인가요?", KOREAN, False),
    ],
)
def test_words_are_found_where_no_space_is_between_them(
    question: str, texts: tuple[str, str], is_relevant: bool
) -> None:
    assert relevant(question, *texts) is is_relevant
