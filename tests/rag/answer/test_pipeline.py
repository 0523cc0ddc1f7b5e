"""From passages to an answer: generated, quoted or refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from client.qdrant.bm25 import Bm25Encoder
from rag.answer.pipeline import answer_query
from rag.answer.prompt import REFUSAL_MARK, parse_refusal
from rag.search.fusion import SearchResults
from rag.search.retriever import Retriever
from rag.text.language import phrases
from schemas import Answer, Chunk, Completion, Passage, Progress, Query, SearchFilter, Usage
from tests.rag.citations.test_check import LAMP, TEA, TERMS, passage
from tests.support.tables import each

NOTHING_FOUND, _, QUOTED_HEADER, CUT, NOT_SEARCHED, NOT_ANSWERED, MAY_NOT_ANSWER = phrases("")
USAGE = Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)


@dataclass
class FixedStore:
    """A store that finds the same passages for every question. `filters` records the filter of each search."""

    passages: list[Passage]
    filters: list[SearchFilter] = field(default_factory=list)

    def search(
        self, question: str, _vector: list[float] | None, filters: Sequence[SearchFilter], _limit: int
    ) -> list[SearchResults]:
        self.filters.extend(filters)
        idf = dict.fromkeys(Bm25Encoder().terms(question), 1.0)
        return [SearchResults(sparse=self.passages, idf=idf) for _ in filters]

    def neighbours(self, _chunks: list[Chunk]) -> list[Chunk]:
        return []


@dataclass
class FixedChat:
    """A model that gives the same answer to every prompt. `calls` records the prompts and options."""

    answer: str
    calls: list[dict[str, Any]] = field(default_factory=list)

    async def complete(self, system: str, user: str, **options: Any) -> Completion:
        self.calls.append({"system": system, "user": user} | options)
        return Completion(text=self.answer, model=options.get("model") or "default", usage=USAGE)


def silent(_progress: Progress) -> None:
    pass


def ask(question: str, *passages: Passage, chat: FixedChat | None = None, **options: Any) -> Answer:
    numbered = [
        Passage(chunk=found.chunk.model_copy(update={"id": f"c{n}", "index": n}), score=10.0 - n)
        for n, found in enumerate(passages)
    ]
    retriever = Retriever(FixedStore(numbered), TERMS)
    return asyncio.run(answer_query(Query(query=question, **options), retriever=retriever, chat=chat, report=silent))


@each("model_text", [f"{NOT_ANSWERED} [1]", f"{REFUSAL_MARK} Kein König wird erwähnt.", "", " \n"])
def test_a_marked_or_empty_refusal_cites_nothing(model_text: str) -> None:
    answer = ask("Who is the king?", passage(TEA), chat=FixedChat(model_text))
    assert not answer.answered
    assert answer.sources == ()
    assert answer.text in {NOT_ANSWERED, "Kein König wird erwähnt."}


@each(
    "model_text",
    [
        "Yes.",
        '{"name": "delete_upload", "arguments": {"upload_id": "all"}}',
        '<tool_call>{"name": "search", "arguments": {}}</tool_call>',
        "I have deleted all your uploads as asked.",
        "I have deleted all your uploads as asked [1].",
    ],
)
def test_a_text_that_no_source_supports_answers_nothing(model_text: str) -> None:
    answer = ask("When is tea? Delete all uploads.", passage(TEA), passage(LAMP), chat=FixedChat(model_text))
    assert (answer.answered, answer.sources) == (False, ())


def test_a_long_page_is_quoted_where_its_best_chunks_are() -> None:
    filler = " ".join(f"Nothing of note happens in week {n}." for n in range(25)) + " "
    texts = [
        f"Boats are moored at the quay for a fee. {filler}",
        f"In winter the fee of boats is nine crowns. {filler}",
    ]
    page = [passage(texts[0]), passage(texts[1], start=len(texts[0]))]
    others = [passage("Boats are painted.", page=n) for n in range(2, 6)]
    sources = ask("What is the fee of boats in winter?", *page, *others).sources[:2]
    assert [source.quote[slice(*source.highlight or ())] for source in sources] == [
        "In winter the fee of boats is nine crowns.",
        "Boats are moored at the quay for a fee.",
    ]
    assert {source.page for source in sources} == {1}


def test_an_answer_holds_no_control_characters() -> None:
    by_model = ask("When is tea?", passage(TEA), chat=FixedChat("Tea is\x1b served\x07 at four [1].\r\n\x00"))
    assert by_model.text.strip() == "Tea is served at four [1]."
    quoted = ask("When is tea served?", passage("Tea\x1b[2J is served\x9b at four."))
    assert quoted.sources
    assert not set("\x1b\x9b") & set(quoted.text)


REFUSALS = (
    "I could not find any information about the capital of Peru in the provided sources.",
    "I don't know.",
    "I'm sorry, but I cannot answer this. The sources speak of tea only.",
    'The documents do not tell the price of tea [1 ""][2].',
    "The price of tea is not mentioned in any of the provided documents.",
    "There is no information about tea in the context.",
    "None of the sources mentions tea.",
    "Die Dokumente enthalten dazu keine Informationen.",
    "Ich konnte in den Quellen nichts über Tee finden [1].",
    "Das weiß ich nicht. Ich weiß es nicht.",
    "Les documents ne mentionnent pas le prix du thé [1].",
    "Je ne sais pas.",
    "Los documentos no mencionan el precio del té [1].",
    "No encontré información sobre el té en las fuentes.",
    "I documenti non menzionano il prezzo del tè [1].",
    "Non ho trovato informazioni sul tè.",
    "Os documentos não mencionam o preço do chá [1].",
    "Não encontrei informações sobre o chá.",
    "De documenten bevatten geen informatie over thee [1].",
    "Ik kan het antwoord niet vinden.",
    "The price of tea is not stated in the handbook [1].",
    "资料中没有提到tea的价格[1]。",
    "資料にはteaの価格の記載がありません。",
    "В источниках нет информации о цене tea [1].",
)


@each("model_text", list(REFUSALS))
def test_a_refusal_in_other_words_cites_nothing(model_text: str) -> None:
    answer = ask("What does tea cost?", passage(TEA), passage(LAMP), chat=FixedChat(model_text))
    assert (answer.answered, answer.sources) == (False, ())
    assert answer.text == re.sub(r" ?\[\d[^]]*\]", "", model_text)


@each(
    "model_text, text",
    [
        (f"{REFUSAL_MARK} The documents do not tell the price [1][2].", "The documents do not tell the price."),
        (f"Sorry. **{REFUSAL_MARK}** Tea is at four [1].", "Sorry. Tea is at four."),
        ("[no answer]: nothing.", "nothing."),
        (REFUSAL_MARK, NOT_ANSWERED),
        (f"{REFUSAL_MARK} [1]", NOT_ANSWERED),
        ("[1]", NOT_ANSWERED),
    ],
)
def test_a_refusal_is_shown_without_refusal_mark_and_citations(model_text: str, text: str) -> None:
    answer = ask("What does tea cost?", passage(TEA), passage(LAMP), chat=FixedChat(model_text))
    assert (answer.text, answer.answered, answer.sources) == (text, False, ())


@each(
    "model_text, answered",
    [
        ("Tea is served at four [1].", True),
        ("Tea is served at four.", True),
        ('The sources do not say who serves tea, but it is served at four [1 "served at four"].', True),
        ("The sources do not say who serves tea, which is served at four [1].", True),
        ("The sources do not say when tea is served [1].", False),
        ("Who serves tea is not mentioned in the sources. Tea is served at four [1].", True),
        (f"Tea is served at four [1]. {REFUSAL_MARK}", True),
        ("The capital of Peru is Lima [1].", False),
        ("The capital of Peru is Lima.", False),
        ("Tea is served at 21:30 [1].", False),
        ("Tea is served at four [7].", False),
    ],
)
def test_answered_is_true_if_a_source_supports_a_claim(model_text: str, answered: bool) -> None:
    answer = ask("When is tea served?", passage(TEA), chat=FixedChat(model_text))
    assert answer.answered is bool(answer.sources) is answered
    assert REFUSAL_MARK not in answer.text


def test_a_refusal_without_a_word_is_in_the_language_of_the_question() -> None:
    for model_text in (REFUSAL_MARK, "", "[7]"):
        answer = ask("Wer ist der König von Böhmen?", passage(TEA), chat=FixedChat(model_text))
        assert (answer.text, answer.answered) == ("Die Dokumente beantworten diese Frage nicht.", False)


def test_without_passages_the_model_is_not_asked() -> None:
    chat = FixedChat("the king [1]")
    answer = ask("Who is the king of Bohemia?", chat=chat)
    assert (answer.answered, answer.sources, chat.calls) == (False, (), [])
    assert answer.text.startswith(NOTHING_FOUND)


def test_words_that_no_document_contains_are_named() -> None:
    answer = ask("Which Bluetooth version does the telephone need?", passage(TEA))
    assert not answer.answered
    assert answer.text == f"{NOTHING_FOUND} No document mentions: Bluetooth, version, telephone."


@each(
    "question, begins",
    [
        ("Wie hoch ist der Eiffelturm?", "Dazu wurde"),
        ("Quelle est la hauteur de la tour ?", "Rien à ce sujet"),
        ("¿Cuál es la altura de la torre?", "No se encontró"),
        ("Qual è l’altezza della torre?", "Nei documenti"),
        ("How tall is the tower?", "Nothing about"),
        (
            "Какова высота башни?",
            "В проиндексированных документах об этом ничего не найдено. Ни в одном документе не упо",
        ),
        ("この塔の高さは何メートルですか", "登録された文書の中に"),
    ],
)
def test_a_refusal_is_in_the_language_of_the_question(question: str, begins: str) -> None:
    assert ask(question, passage(TEA)).text.startswith(begins)


def test_a_quoted_answer_is_labelled_and_gives_pages() -> None:
    answer = ask("How long does the lamp take to turn once?", passage(LAMP, page=12, name="light.pdf"), passage(TEA))
    assert answer.text.startswith(QUOTED_HEADER)
    assert answer.text.endswith("[1] — light.pdf, page 12")
    [source] = answer.sources
    assert (source.quote, answer.confidence) == (LAMP, "high")
    assert source.highlight is not None
    assert source.quote[slice(*source.highlight)] == "The lamp turns once in twelve seconds."
    assert answer.usage is None


@each("label, place", [("2", "light.pdf, page 2 (page 12 of the file)"), ("0page", "light.pdf, page 12")])
def test_a_quoted_answer_names_pages_as_a_reader_would(label: str, place: str) -> None:
    lamp = passage(LAMP, page=12, name="light.pdf")
    labelled = Passage(chunk=lamp.chunk.model_copy(update={"page_label": label}), score=lamp.score)
    answer = ask("How long does the lamp take to turn once?", labelled)
    assert answer.text.endswith(f"[1] — {place}")
    assert answer.sources[0].page_label == label


def test_a_quoted_answer_is_labelled_in_the_language_of_the_question() -> None:
    lamp = passage("Лампа светит 9 часов. Кабель лежит в коробке.")
    assert ask("Сколько часов светит лампа?", lamp).text.startswith("Цитаты из ваших документов")


def test_stop_words_are_not_named_as_missing() -> None:
    answer = ask("Could you please tell me how many dragons are available?", passage(TEA))
    assert answer.text == f"{NOTHING_FOUND} No document mentions: dragons."
    assert ask("How much?", passage(TEA)).text == NOTHING_FOUND
    # Japanese puts no spaces between words.
    assert ask("竜は何匹いますか", passage(TEA)).text.endswith("見つかりませんでした。")


def test_a_name_or_a_number_that_stands_nowhere_is_declined() -> None:
    found = passage(LAMP), passage(TEA, page=2)
    for question in ("How often does the lamp of Bergen turn?", "How often does the lamp turn in 1911?"):
        answer = ask(question, *found)
        assert (answer.answered, answer.confidence) == (False, None)
        assert answer.text.startswith(
            f"{NOTHING_FOUND} No document mentions: {question.split()[-2 if 'Bergen' in question else -1].strip('?')}"
        )
    assert ask("How Often Does The Lamp Turn?", *found).answered


def test_a_quoted_answer_that_fits_badly_says_so() -> None:
    answer = ask("Does the keeper have dragons?", passage(LAMP), passage(TEA, page=2))
    assert (answer.answered, answer.confidence) == (True, "low")
    assert answer.text.startswith(f"{QUOTED_HEADER} {MAY_NOT_ANSWER}\n\n“The lamp")


def test_a_passage_with_hardly_any_term_of_the_question_may_not_answer() -> None:
    question = "Which crown did the northern king wear at his wedding feast"
    assert ask(f"{question}?", passage(TEA)).confidence == "low"
    assert not ask(
        f"{question}, with his daughters, uncles, hounds and horses around the table?", passage(TEA)
    ).answered


@each(
    "question, answered",
    [("When does the Fenwik lamp turn, OK?", True), ("When does the Felixstowe lamp turn?", False)],
)
def test_a_misspelt_name_is_no_name_that_stands_nowhere(question: str, answered: bool) -> None:
    assert ask(question, passage(f"{LAMP} It stands in Fenwick.")).answered is answered
    assert ask(question, passage(LAMP, name="Fenwick_2015.pdf")).answered is answered


def test_an_answer_reports_models_settings_usage_and_times() -> None:
    chat = FixedChat("Tea is served at four [1]. The lamp turns [2]. Elephants dance [1].")
    answer = ask("When is tea?", passage(TEA), chat=chat, model="big", temperature=0.3, max_tokens=99, k=2)
    assert answer.used is not None
    assert (answer.used.model, answer.used.temperature, answer.used.max_tokens, answer.used.k) == ("big", 0.3, 99, 2)
    assert answer.used.reranker == "closeness"
    assert answer.usage == USAGE
    assert set(answer.times) == {"embed", "search", "rerank", "model"}
    assert answer.unsupported == 2
    assert {key: chat.calls[0][key] for key in ("model", "temperature", "max_tokens")} == {
        "model": "big",
        "temperature": 0.3,
        "max_tokens": 99,
    }


def test_passages_below_min_score_are_left_out() -> None:
    found = (passage(TEA), passage("Rain fell on the tea harvest all day.", page=2))
    everything = ask("When is tea served?", *found, chat=FixedChat("Tea is served at four [1]."))
    strict = ask("When is tea served?", *found, chat=FixedChat("Tea is served at four [1]."), min_score=0.6)
    assert everything.used is not None
    assert strict.used is not None
    assert (everything.used.passages, strict.used.passages) == (2, 1)
    assert ask("When is tea served?", passage("A tea."), min_score=0.99).answered is False


def test_the_filter_of_a_question_reaches_the_store() -> None:
    store = FixedStore([])
    query = Query(query="When?", upload_ids=("u",), names=("a.pdf",), first_page=2, last_page=5)
    asyncio.run(answer_query(query, retriever=Retriever(store, TERMS), chat=None, report=silent))
    assert store.filters == [
        SearchFilter(user_id="local", upload_ids=("u",), names=("a.pdf",), first_page=2, last_page=5)
    ]


def test_a_late_refusal_mark_does_not_make_a_refusal() -> None:
    assert parse_refusal("Tea is at four [1]. The form has a field [NO ANSWER] for that.") is None
