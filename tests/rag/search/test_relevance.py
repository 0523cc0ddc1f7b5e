"""The terms of a question, and how relevant a text is to them."""

from __future__ import annotations

from client.qdrant.bm25 import Bm25Encoder
from rag.search.relevance import MIN_RELEVANCE, QueryTerms, content_terms, follow_up_terms
from tests.support.tables import each

TERMS = Bm25Encoder().terms
LENS = "Clean the lens with a soft damp cloth. Do not use alcohol."
CHARGE = "A full charge takes three hours. The ring turns green."


def query_terms(question: str, *texts: str, follow_up: str | None = None) -> QueryTerms:
    """Return the question's terms, with an IDF that is higher the fewer of these texts contain the term."""
    terms_by_text = [TERMS(text) for text in texts]
    idf = {
        term: len(texts) / sum(term in other for other in terms_by_text) for terms in terms_by_text for term in terms
    }
    terms = content_terms(question, TERMS)
    known = {term: idf[term] for term in terms & idf.keys()}
    return QueryTerms(terms, known, follow_up=follow_up_terms(follow_up, TERMS))


def is_relevant(question: str, text: str, *others: str, follow_up: str | None = None) -> bool:
    """Return True if `text` answers the question, in a collection of `text` and `others`."""
    return query_terms(question, text, *others, follow_up=follow_up).relevance(text, TERMS) > MIN_RELEVANCE


@each(
    "question, about",
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
def test_stop_words_are_not_content_terms(question: str, about: str) -> None:
    assert content_terms(question, TERMS) == TERMS(about)


def test_a_question_of_stop_words_only_keeps_them() -> None:
    assert content_terms("What is needed?", TERMS) == TERMS("needed")


def test_an_unknown_word_is_forgiven_when_the_others_stand_together() -> None:
    assert is_relevant("Which soft tissue cleans the lens?", LENS, CHARGE)
    assert not is_relevant("Which tissue cleans a telescope?", LENS, CHARGE)
    assert not is_relevant("Which telescope?", LENS, CHARGE)


def test_terms_far_apart_are_less_relevant_than_terms_close_together() -> None:
    apart = "The lens is round. Rain fell. It fell again. The night was dark. A cloth hung there."
    question = query_terms("lens cloth", LENS, apart)
    assert question.relevance(LENS, TERMS) > question.relevance(apart, TERMS) > 0


def test_a_text_without_the_rarest_term_does_not_answer_a_short_question() -> None:
    wage = "We raise the minimum wage. Every worker has a right to a decent living."
    others = ("The minimum wage rose.", "A minimum was set for each wage.", "Sweden joined the alliance.")
    assert is_relevant("What is the minimum wage?", wage, *others)
    assert not is_relevant("What is the minimum wage in Sweden?", wage, *others)


def test_a_text_without_a_term_of_the_follow_up_does_not_answer_it() -> None:
    assert is_relevant("And the ring? full charge", CHARGE, LENS, follow_up="And the ring?")
    assert not is_relevant("And the moon? full charge", CHARGE, LENS, follow_up="And the moon?")
    assert not is_relevant("And the moon? lens cloth", LENS, follow_up="And the moon?")
    assert is_relevant("And when? full charge", CHARGE, LENS, follow_up="And when?")
    # A text that answers the follow-up alone stays relevant when unrelated words are added to the question.
    assert is_relevant("How green? lens soft damp cloth alcohol", CHARGE, LENS, follow_up="How green?")


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


@each(
    "question, texts, answered",
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
def test_terms_are_found_in_languages_without_spaces(question: str, texts: tuple[str, str], answered: bool) -> None:
    assert is_relevant(question, *texts) is answered
