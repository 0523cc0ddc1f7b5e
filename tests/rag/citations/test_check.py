"""The check of citations, and the quotes of the sources."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from client.qdrant.bm25 import Bm25Encoder
from rag.citations.check import check_citations, supports
from rag.citations.quotes import MAX_QUOTE_CHARS, best_quote
from rag.ingest.chunking import chunk_pages
from schemas import Chunk, Document, Page, Passage
from tests.support.tables import each

TERMS = Bm25Encoder().terms
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


@given(text=TEXTS, target=st.text(max_size=80))
def test_a_quote_is_an_exact_part_of_its_text(text: str, target: str) -> None:
    quote = best_quote(text, TERMS(target), TERMS)
    assert 0 <= quote.start <= quote.end <= len(text)
    assert quote.end - quote.start <= MAX_QUOTE_CHARS
    assert quote.matched == len(TERMS(text[quote.start : quote.end]) & TERMS(target))


@settings(deadline=None)  # another test measures the time
@given(pages=st.lists(TEXTS, min_size=1, max_size=3), answer=TEXTS, question=st.text(max_size=60))
def test_the_offsets_of_a_source_point_to_its_quote_in_the_page(pages: list[str], answer: str, question: str) -> None:
    document = Document(upload_id="u", path="/a.pdf", name="a.pdf")
    made = [Page(number=n, label=str(n), text=text) for n, text in enumerate(pages, start=1)]
    passages = [Passage(chunk=chunk, score=1.0) for chunk in chunk_pages(document, made, model="m")][:8]
    for model_text in (answer, f"{answer} [1]. {pages[0][:200]} [1][2]"):
        checked = check_citations(model_text, passages, question, TERMS)
        for source in checked.sources:
            assert source.quote
            assert pages[source.page - 1][source.start : source.end] == source.quote


def test_the_best_quote_is_the_sentence_that_answers() -> None:
    quote = best_quote(LAMP, TERMS("From how many miles is it seen?"), TERMS)
    assert LAMP[quote.start : quote.end] == "It is seen from 21 miles away."
    assert quote.matched == 2


def test_only_a_row_of_a_long_table_is_quoted() -> None:
    rows = [f"Item {n} costs {n * 7} crowns and weighs {n * 3} grams in the list" for n in range(60)]
    text = "\n".join(rows)
    quote = best_quote(text, TERMS("item 41 287 crowns"), TERMS)
    assert rows[41] in text[quote.start : quote.end]


def test_each_cited_source_quotes_its_claim() -> None:
    answer = "Tea is at four [2]. The lamp turns every twelve seconds [1]."
    checked = check_citations(answer, [passage(LAMP, start=40), passage(TEA, page=3)], "When is tea?", TERMS)
    assert checked.text == answer
    assert checked.unsupported == 0
    assert [(source.n, source.page, source.quote, source.start, source.end) for source in checked.sources] == [
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
    "endless": ("Tea is served at four [12345] [99999999999999999999].", "Tea is served at four.", [], 2),
    "endless in digits": (f"Tea is served at four [{'9' * 5_000}].", "Tea is served at four.", [], 1),
    "below zero": ("Tea is served at four [-1].", "Tea is served at four.", [], 1),
    "footnote": ("Tea is served at four [^1].", "Tea is served at four [1].", [1], 0),
    "footnotes": (
        "Tea is served at four [^1].\n\n[^1]: tea.pdf, page 3\n[^2]: lamp.pdf\n[^9]: all.pdf",
        "Tea is served at four [1].\n\n[1]: tea.pdf, page 3\nlamp.pdf\nall.pdf",
        [1],
        1,
    ),
    "wide brackets": ("Tea is served at four［1］.", "Tea is served at four[1].", [1], 0),
    "wide figures": ("Tea is served at four ［１］.", "Tea is served at four [1].", [1], 0),
    "escaped": (r"Tea is served at four \[1\].", "Tea is served at four [1].", [1], 0),
    "with a page": ("Tea is served at four [1, p. 3].", "Tea is served at four [1].", [1], 0),
    "joined": ("Tea is served at four [1 and 7].", "Tea is served at four [1].", [1], 1),
    "side by side": ("Tea is served at four [1] and [7], [2].", "Tea is served at four [1].", [1], 2),
    "round and named": ("Tea is served at four (source 1).", "Tea is served at four [1].", [1], 0),
    "round": ("Tea is served at four (1) [1].", "Tea is served at four (1) [1].", [1], 0),
    "index in code": ("Tea is served at four [1]. Use `a[1][7]`.", "Tea is served at four [1]. Use `a[1][7]`.", [1], 0),
    "mark in code": ("Tea is served at four `[7]`.", "Tea is served at four ``.", [], 1),
    "other brackets": ("Tea [sic] is served [-1, 1] at four [1].", "Tea [sic] is served [-1, 1] at four [1].", [1], 0),
    "according to": ("According to [1], tea is served at four.", "According to [1], tea is served at four.", [1], 0),
    "before": ("[1] Tea is served at four.", "[1] Tea is served at four.", [1], 0),
    "before each": (
        "[1] Tea is served at four. [2] It is seen from 21 miles away. [1] Scones cost nine crowns.",
        "[1] Tea is served at four. [2] It is seen from 21 miles away. Scones cost nine crowns.",
        [1, 2],
        1,
    ),
    "as it states": ("As source [1] states, tea is at four.", "As source [1] states, tea is at four.", [1], 0),
    "subject": ("Tea [1] is served at four.", "Tea [1] is served at four.", [1], 0),
    "subject, not so": ("Tea [1] is served at nine.", "Tea is served at nine.", [], 1),
    "according to, not so": ("Well. According to [1], tea is at nine.", "Well. Tea is at nine.", [], 1),
    "according to a wrong one": ("According to [7], tea is served at four.", "Tea is served at four.", [], 1),
    "before, not so": ("[1] Tea is served at nine.", "Tea is served at nine.", [], 1),
    "as it states, not so": ("As source [1] states, tea is at nine.", "Tea is at nine.", [], 1),
    "part of the sentence": ("Laut [7] gibt es um vier Tee.", "Laut [?] gibt es um vier Tee.", [], 1),
    "says it": ("[7] states that tea is at four.", "[?] states that tea is at four.", [], 1),
    "in parentheses": ("Tea is served at four (see [7]).", "Tea is served at four.", [], 1),
    "two in a sentence": (
        "Tea is served at four [1] and the light is seen from 21 miles [2].",
        "Tea is served at four [1] and the light is seen from 21 miles [2].",
        [1, 2],
        0,
    ),
    "lines": (
        "- Tea is served at four [1]\n- Scones cost nine crowns [1]\n\n1. Scones cost two crowns\n[1]",
        "- Tea is served at four [1]\n- Scones cost nine crowns\n\n1. Scones cost two crowns\n[1]",
        [1],
        1,
    ),
    "rows": (
        "| what | price |\n|---|---|\n| scones | two crowns [1] |\n| moon | 7 crowns [1] |",
        "| what | price |\n|---|---|\n| scones | two crowns [1] |\n| moon | 7 crowns |",
        [1],
        1,
    ),
    "rows with the mark in front": (
        "| scones [1] | two crowns |\n| tea [1] | 9 crowns |",
        "| scones [1] | two crowns |\n| tea | 9 crowns |",
        [1],
        1,
    ),
    "wrapped": ("Tea is served\nat nine [1].", "Tea is served\nat nine.", [], 1),
    "refusal": (
        "The documents do not say when tea is served [1][2].",
        "The documents do not say when tea is served.",
        [],
        0,
    ),
    "partly a refusal": (
        "The sources do not say who serves tea, but it is served at four [1].",
        "The sources do not say who serves tea, but it is served at four [1].",
        [1],
        0,
    ),
    "no refusal": (
        "The document states that tea does not hold four scones [1].",
        "The document states that tea does not hold four scones [1].",
        [1],
        0,
    ),
    "partly a refusal in Chinese": ("资料中没有提到价格，但Tea is served at four [1]。",) * 2 + ([1], 0),
    "refusal after all": (
        "Tea is served at four [1]. The sources do not mention the price of tea [1].",
        "Tea is served at four [1]. The sources do not mention the price of tea.",
        [1],
        0,
    ),
    "refusal without a mark": (
        "I could not find when tea is served at four.",
        "I could not find when tea is served at four.",
        [],
        0,
    ),
    "years in brackets": ("Tea [1887] is served at four [1].", "Tea is served at four [1].", [1], 1),
}


@each("model_text, text, cited, unsupported", MODEL_OUTPUTS)
def test_unsupported_citations_are_removed(model_text: str, text: str, cited: list[int], unsupported: int) -> None:
    checked = check_citations(model_text, [passage(TEA), passage(LAMP, page=2)], "When is tea?", TERMS)
    assert (checked.text, [source.n for source in checked.sources], checked.unsupported) == (text, cited, unsupported)


HANDBOOK = (
    "The lamp weighs 142 grams with its battery. The headband adds 31 grams. It holds 1,500 mAh and costs $40. "
    "It is not a diving lamp. Charging takes three hours and twenty minutes. Sales rose to 1.5 million euros in 2021."
)
CLAIMS = {
    "The lamp weighs 142 grams with its battery.": True,
    "The lamp weighs 142 g.": True,
    "It weighs one hundred and forty-two grams.": True,
    "The lamp weighs 142 grams, and the headband adds 31.": True,
    "The lamp weighs 142 grams, not 999.": False,
    "The lamp weighs 999 grams with its battery; the headband adds 31 grams.": False,
    "The headband weighs 142 grams.": False,
    "The lamp weighs 31 grams with its battery.": False,
    "The moon weighs 142 grams with its battery.": False,
    "The lamp weighs 142 kilograms.": False,
    "The lamp weighs 0.142 kg.": False,
    "The lamp does not weigh 142 grams.": False,
    "The lamp doesn't weigh 142 grams with its battery.": False,
    "The lamp weighs 142 grams, costs 999 dollars, and was made in 1850.": False,
    "The lamp and its headband weigh 173 grams.": False,
    "The lamp weighs 142 grams with its battery. The headband adds 31 grams. It is not a diving lamp.": True,
    "It holds 1500 mAh.": True,
    "It holds 1.500 mAh and costs 40 dollars.": True,
    "It holds 1500 mAh and costs 40 euros.": False,
    "It is a diving lamp.": False,
    "It is not a diving lamp.": True,
    "Charging takes 3 hours and 20 minutes.": True,
    "Charging takes 3 hours and 30 minutes.": False,
    "1. Charging takes three hours": True,
    "Step 7: Charging takes three hours": True,
    "Sales rose to €1,500,000 in 2021.": True,
    "Sales rose to 1.5 billion euros in 2021.": False,
    "Sales rose to 1.5 million euros in 2022.": False,
    "Die Lampe wiegt mit ihrer Batterie 142 Gramm, und das ist nicht viel für eine Lampe.": True,
    "Die Lampe wiegt mit ihrer Batterie 142 Kilogramm, und das ist nicht wenig.": False,
}


REPORT = (
    "Northwind Logistics was founded in 1998 by Maria Lopez. In 2023, revenue reached $1,234.5 million. "
    "The plant in Porto opened on 14 March 2022. The board does not expect acquisitions in 2024. "
    "Alice Smith manages the Berlin office. Bob Jones manages the Paris office. Low gives 30 lumens for 38 hours, "
    "high gives 400 lumens for 2.5 hours. Expenses above 500 pounds need written approval by the finance director. "
    "Questions are answered on weekdays between 9:00 and 17:00. The lamp is waterproof. Haustiere sind nicht erlaubt."
)
CLAIMS_OF_A_REPORT = {
    "Revenue reached $1.2345 billion in 2023.": True,
    "Revenue reached $1.2345 million in 2023.": False,
    "Revenue reached 1,234.5M USD in 2023.": True,
    "Revenue reached $1,234.5B in 2023.": False,
    "The Porto plant opened on 2022-03-14.": True,
    "The Porto plant opened on 14.03.2022.": True,
    "The Porto plant opened on 14/04/2022.": False,
    "The plant weighs 3 kilograms.": False,
    "Questions are answered on weekdays between 9 a.m. and 5 p.m.": True,
    "Questions are answered on weekdays between 9 a.m. and 6 p.m.": False,
    "Northwind plans no acquisitions in 2024.": True,
    "Expenses above 500 GBP need the written approval of the finance director.": True,
    "Expenses above 500 pounds are approved in writing by Peter Jarvis.": False,
    "Alice Smith manages the Berlin office and Bob Jones the Paris office.": True,
    "Bob Jones manages the Berlin office.": False,
    "Alice Smith manages the Paris office.": False,
    "High gives 400 lumens for 2.5 hours.": True,
    "The high level gives 30 lumens.": False,
    "High gives 400 lumens for 38 hours.": False,
}


@each("claim, supported", CLAIMS_OF_A_REPORT.items())
def test_rephrased_claims_are_supported_and_swapped_figures_are_not(claim: str, supported: bool) -> None:
    assert supports(REPORT, claim, TERMS) is supported


@each("claim, supported", CLAIMS.items())
def test_a_claim_needs_the_figures_of_its_source(claim: str, supported: bool) -> None:
    assert supports(HANDBOOK, claim, TERMS) is supported


ASKED = {
    "a figure of the question beside the right one": (
        "Does the lamp weigh 999 grams?",
        "No, not 999 but 142 grams.",
        True,
    ),
    "a figure of the question alone": ("Does the lamp weigh 999 grams?", "Yes, the lamp weighs 999 grams.", False),
    "a word of the question": ("How heavy is the torch?", "The torch weighs 142 grams with its battery.", True),
    "a name of the question": ("How heavy is the Titan?", "Our Titan weighs 142 grams with its battery.", False),
    "nothing but the question": ("What is the capital of the lamp?", "The capital of the lamp is Lima.", False),
    "no more than a yes": ("Is the lamp heavy with its battery?", "Yes.", True),
    "no more than a wrong yes": ("Is it a diving lamp?", "Yes, it is.", False),
    "no more than a no": ("Is it a diving lamp?", "No.", True),
    "no more than a wrong no": ("Does it come with a battery?", "No, it doesn't.", False),
    "a yes to a wrong figure": ("Does the lamp weigh 999 grams?", "Yes.", False),
    "a no to a wrong figure": ("Does the lamp weigh 999 grams?", "No.", True),
    "a denial in another word": ("Is it a lamp for diving?", "No, it is unsuitable for diving: avoid that.", True),
    "a yes": ("Is the lamp heavy with its battery?", "Yes, the lamp is heavy.", True),
}


@each("question, claim, supported", ASKED)
def test_words_of_the_question_alone_do_not_support_a_claim(question: str, claim: str, supported: bool) -> None:
    assert supports(HANDBOOK, claim, TERMS, question=question) is supported


def test_a_claim_may_repeat_figures_of_the_documents_name_and_page() -> None:
    [source] = check_citations(
        "Tea is served at four in 2023, says page 7 [1].", [passage(TEA, page=7, name="2023.pdf")], "Tea?", TERMS
    ).sources
    assert source.quote == "Tea is served at four."


NUMBERED = ", ".join(f"tea {n}" for n in range(50)) + ". "


def distinct_word(n: int) -> str:
    return "".join(chr(ord("a") + n // 26**place % 26) for place in range(3)) + "q"


HOSTILE = {
    "marks": "[1]" * 10_000,
    "sentences": "Tea is served at four [1]. " * 5_000,
    "different sentences": "".join(f"Tea is served at {n} [1]. " for n in range(1_000)),
    "a sentence of marks": "tea [1] " * 8_000,
    "spaces": " " * 60_000 + "[1",
    "brackets": "[" * 50_000,
    "open marks": "[1, 2, 3 " * 8_000,
    "a long mark": f"Tea [{'1, ' * 20_000}1].",
    "ranges": "[1-50]" * 2_000,
    "quotes": "\n>[1]:" * 8_000,
    "code": "`a[1] " * 8_000,
    "words for numbers": "hundred and " * 10_000 + "[1]",
    "digits": "1,000 " * 10_000 + "[1]",
    "digits in a row": "1" * 60_000 + " [1]",
    "commas": "tea, " * 10_000 + "[1]",
    "denials": "not tea, " * 8_000 + "[1]",
    "refusals": "the documents do not " * 4_000 + "[1]",
    "refusals, each a sentence": "The documents are served at four. " * 3_000,
    "names": "Tea Is Served At Four " * 4_000 + "[1]",
    "rows": "| tea | 4 [1] |\n" * 5_000,
    "daggers": "【1†" * 10_000,
    "figures that are given": "tea 5, " * 8_000 + "[1]",
    "figures that are given, each of something else": "".join(f"tea 5 {distinct_word(n)}, " for n in range(4_000))
    + "[1]",
    "names exchanged": "Alice Smith manages the Berlin tea " * 2_000 + "[2]",
    "replies": "Yes [1]. " * 6_000,
    "characters": "本公司成立于1998年，" * 6_000 + "[1]",
    "dates": "14 March " * 7_000 + "[1]",
}


@each("answer", HOSTILE)
def test_an_answer_made_to_be_slow_is_checked_in_linear_time(answer: str) -> None:
    started = time.process_time()
    passages = [passage(TEA * 20 + NUMBERED), passage(HANDBOOK * 5 + REPORT, page=2)]
    check_citations(answer, passages, "When is tea?", TERMS)
    # It takes under 3 s on a busy machine; a quadratic check would take minutes.
    assert time.process_time() - started < 20


def test_a_claim_in_another_language_must_share_a_name_or_figure() -> None:
    german = "Das Licht der Lampe ist aus 21 Meilen zu sehen und nicht weiter"
    source = "The light of the lamp is seen from 21 miles away, and that is what the keeper was told."
    assert supports(source, german, TERMS)
    assert not supports(source, german.replace("21", "34"), TERMS)
    assert not supports(source, "Das ist der Preis, den wir mit dem Wirt für das Zimmer vereinbart haben", TERMS)


UNSPACED = {
    "本公司成立于1998年，总部位于北京。员工总数为4200人。保修期为两年。": {
        "该公司于1998年成立，总部在北京": True,
        "员工有4,200人": True,
        "保修期为2年": True,
        "该公司于1999年成立": False,
        "巴黎的天气很好": False,
    },
    "当社は1998年に設立され、本社は東京にあります。従業員数は4200人です。": {
        "従業員は4,200人です": True,
        "東京に本社があります": True,
        "従業員は5,200人です": False,
    },
    "El contrato dura doce meses. La fianza es de 1.200,00 €.": {
        "La fianza asciende a 1200 euros": True,
        "12 months": True,
    },
    "Гарантия действует два года.": {"Гарантия составляет 2 года": True, "Гарантия составляет 3 года": False},
}


@each("text", list(UNSPACED))
def test_claims_are_compared_in_other_scripts_and_number_formats(text: str) -> None:
    assert {claim: supports(text, claim, TERMS) for claim in UNSPACED[text]} == UNSPACED[text]


def test_a_german_noun_is_not_taken_for_a_name() -> None:
    text = "Die Gebühr beträgt 50 Euro pro Monat. Haustiere sind nicht erlaubt."
    assert supports(text, "Der Preis beträgt 50 Euro pro Monat", TERMS, question="Wie hoch ist der Preis?")
    assert supports(text, "Haustiere sind verboten", TERMS, question="Sind Haustiere erlaubt?")


def test_an_abbreviation_does_not_end_a_claim() -> None:
    [source] = check_citations(
        "Der Umsatz betrug 412,6 Mio. Euro [1].", [passage("Der Umsatz lag bei 412,6 Mio. Euro.")], "Umsatz?", TERMS
    ).sources
    assert source.quote == "Der Umsatz lag bei 412,6 Mio. Euro."


def test_the_year_in_a_heading_counts_for_the_text_below() -> None:
    text = "Annual Report 2022\n\nRevenue rose to 412.6 million euros (2021: 381.0 million euros)."
    assert supports(text, "Revenue was 412.6 million euros in 2022", TERMS)


def test_a_claim_in_other_words_is_supported() -> None:
    assert supports(LAMP, "The light can be seen 21 miles from the coast", TERMS)
    assert not supports(LAMP, "The harbour closes at 21 o'clock in winter, the ferry company announced", TERMS)
