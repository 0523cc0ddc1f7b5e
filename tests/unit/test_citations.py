"""Quotes, and the marks that point to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.bm25 import Lexicon
from rag.chunking import chunk_pages
from rag.citations import check_citations, supports
from rag.quotes import MAX_QUOTE_CHARS, best_quote
from schemas import Chunk, Document, Page, Passage

TERMS = Lexicon().terms
LAMP = "The lamp turns once in twelve seconds. It is seen from 21 miles away. The keeper lives in a cottage."
TEA = "Tea is served at four. Scones cost two crowns."
WORDS = st.sampled_from(
    [
        "lamp",
        "turns",
        "once",
        "in",
        "12",
        "seconds",
        ".",
        "!",
        "tea",
        "Tea",
        "is",
        "served",
        "\n",
        "\n\n",
        "four",
        "ﬁre",
        "[1]",
        "[2,",
        "9]",
        "[77]",
        "•",
        "é",
        "文",
    ]
)
TEXTS = st.one_of(st.text(max_size=1_500), st.lists(WORDS, max_size=300).map(" ".join))


def passage(text: str, *, page: int = 1, name: str = "a.pdf", start: int = 0) -> Passage:
    chunk = Chunk(
        id="c", upload_id="u", user_id="local", name=name, index=0, page=page, page_label=str(page), start=start,
        end=start + len(text), text=text,
    )  # fmt: skip
    return Passage(chunk=chunk, score=1.0)


@given(text=TEXTS, wanted=st.text(max_size=80))
def test_a_quote_is_always_an_exact_part_of_its_text(text: str, wanted: str) -> None:
    quote = best_quote(text, TERMS(wanted), TERMS)
    assert 0 <= quote.start <= quote.end <= len(text)
    assert quote.end - quote.start <= MAX_QUOTE_CHARS
    assert quote.held == len(TERMS(text[quote.start : quote.end]) & TERMS(wanted))


@given(pages=st.lists(TEXTS, min_size=1, max_size=3), answer=TEXTS, question=st.text(max_size=60))
def test_every_quote_emitted_is_its_pages_text_at_its_offsets(pages: list[str], answer: str, question: str) -> None:
    document = Document(upload_id="u", path="/a.pdf", name="a.pdf")
    made = [Page(number=n, label=str(n), text=text) for n, text in enumerate(pages, start=1)]
    passages = [Passage(chunk=chunk, score=1.0) for chunk in chunk_pages(document, made, model="m")][:8]
    for said in (answer, f"{answer} [1]. {pages[0][:200]} [1][2]"):
        checked = check_citations(said, passages, question, TERMS)
        for source in checked.sources:
            assert source.quote
            assert pages[source.page - 1][source.start : source.end] == source.quote


def test_the_quote_is_the_sentence_that_answers() -> None:
    quote = best_quote(LAMP, TERMS("From how many miles is it seen?"), TERMS)
    assert LAMP[quote.start : quote.end] == "It is seen from 21 miles away."
    assert quote.held == 2


def test_a_row_of_a_long_table_is_quoted_and_not_the_table() -> None:
    rows = [f"Item {n} costs {n * 7} crowns and weighs {n * 3} grams in the list" for n in range(60)]
    text = "\n".join(rows)
    quote = best_quote(text, TERMS("item 41 287 crowns"), TERMS)
    assert rows[41] in text[quote.start : quote.end]


def test_each_cited_source_is_given_with_the_quote_of_its_claim() -> None:
    answer = "Tea is at four [2]. The lamp turns every twelve seconds [1]."
    checked = check_citations(answer, [passage(LAMP, start=40), passage(TEA, page=3)], "When is tea?", TERMS)
    assert checked.text == answer
    assert checked.unsupported == 0
    assert [(s.n, s.page, s.quote, s.start, s.end) for s in checked.sources] == [
        (1, 1, "The lamp turns once in twelve seconds.", 40, 78),
        (2, 3, "Tea is served at four.", 0, 22),
    ]


MODEL_OUTPUTS = {
    "right": ("Tea is served at four [1].", "Tea is served at four [1].", [1], 0),
    "after the full stop": ("Tea is served at four. [1]", "Tea is served at four. [1]", [1], 0),
    "missing": ("Tea is served at four.", "Tea is served at four.", [1], 0),
    "doubled": ("Tea is served at four [1][1].", "Tea is served at four [1][1].", [1], 0),
    "doubled in one": ("Tea is served at four [1, 1].", "Tea is served at four [1].", [1], 0),
    "out of range": ("Tea is served at four [7].", "Tea is served at four.", [], 1),
    "partly out of range": ("Tea is served at four [1, 7].", "Tea is served at four [1].", [1], 1),
    "zero": ("Tea is served at four [0].", "Tea is served at four.", [], 1),
    "range": ("Tea is served at four [1-2].", "Tea is served at four [1].", [1], 1),
    "endless range": ("Tea is served at four [1-9999].", "Tea is served at four [1].", [1], 1),
    "named": ("Tea is served at four [Source 1].", "Tea is served at four [1].", [1], 0),
    "in other brackets": ("Tea is served at four【1†page】.", "Tea is served at four[1].", [1], 0),
    "wrong source": ("Tea is served at four [2].", "Tea is served at four.", [], 1),
    "made up": ("The moon is made of green cheese [1].", "The moon is made of green cheese.", [], 1),
    "wrong number": ("Scones cost nine crowns [1].", "Scones cost nine crowns.", [], 1),
    "right number in figures": ("Scones cost 2 crowns [1].", "Scones cost 2 crowns [1].", [1], 0),
    "two claims, one made up": (
        "Tea is served at four [1]. Elephants dance on Mondays [1].",
        "Tea is served at four [1]. Elephants dance on Mondays.",
        [1],
        1,
    ),
    "alone": ("[1]", "", [], 1),
    "nothing to cite": ("Hm.", "Hm.", [], 0),
    "years in brackets": ("Tea [1887] is served at four [1].", "Tea is served at four [1].", [1], 1),
}


@pytest.mark.parametrize(("said", "text", "cited", "unsupported"), MODEL_OUTPUTS.values(), ids=MODEL_OUTPUTS)
def test_what_a_model_cites_is_checked(said: str, text: str, cited: list[int], unsupported: int) -> None:
    checked = check_citations(said, [passage(TEA), passage(LAMP, page=2)], "When is tea?", TERMS)
    assert (checked.text, [s.n for s in checked.sources], checked.unsupported) == (text, cited, unsupported)


def test_a_claim_in_another_language_needs_a_name_or_a_figure_in_common() -> None:
    german = "Das Licht der Lampe ist aus 21 Meilen zu sehen und nicht weiter"
    source = "The light of the lamp is seen from 21 miles away, and that is what the keeper was told."
    assert supports(source, german, TERMS)
    assert not supports(source, german.replace("21", "34"), TERMS)
    assert not supports(source, "Das ist der Preis, den wir mit dem Wirt für das Zimmer vereinbart haben", TERMS)


def test_a_claim_in_other_words_is_supported() -> None:
    assert supports(LAMP, "The light can be seen 21 miles from the coast", TERMS)
    assert not supports(LAMP, "The harbour closes at 21 o'clock in winter, the ferry company announced", TERMS)
