"""Each quick test that saves a slow one changes no result."""

from __future__ import annotations

import re
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from client.qdrant.bm25 import Bm25Encoder
from rag.citations import figures, number_words, quotes, refusals, sentences, wording
from rag.citations.figures import normalize_line
from rag.citations.number_words import months_in_dates, numbers_in_words
from rag.citations.quotes import COST_OF_A_SENTENCE, MAX_QUOTE_CHARS, MAX_QUOTE_SENTENCES, SECONDARY_WEIGHT, Quote
from rag.citations.sentences import Sentence
from rag.citations.wording import is_negated, names, strip_negation
from rag.text.language import capitalizes_nouns
from rag.text.normalize import normalize
from rag.text.stop_words import NEGATION_WORDS
from tests.support.tables import each

TERMS = Bm25Encoder().terms
PIECES = st.sampled_from(
    [
        *sorted(word for words in NEGATION_WORDS.values() for word in words),
        *sorted(number_words._NUMBERS),
        *sorted(number_words._MONTHS),
        *figures._ANY_WRITTEN.split("|"),
        *("only", "more", "nur", "plus", "don't", "CAN’T", "n't", "İon", "ſix", "sıx", "APRİL", "K", "ß", "Wi-Fi"),
        *("1", "12", "2022", "1,000.50", "9:00", "14th", "²", "٣", "三", "二十", "Alice", "Smith", "USD", "der", "und"),
        *(" ", " ", " ", "-", "'", "’", ".", ", ", ": ", "\n", "_", "•", "(", ")", "of ", "Step 1", "\u00ad", "ﬁ"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(PIECES, max_size=12).map(" ".join),
    st.lists(st.one_of(PIECES, PIECES.map(str.upper), PIECES.map(str.capitalize)), max_size=16).map("".join),
)


@given(text=TEXTS)
def test_negations_are_the_same_as_without_a_quick_test(text: str) -> None:
    quick = (is_negated(text), strip_negation(text))
    with patch.object(wording, "may_be_negated", return_value=True):
        assert (is_negated(text), strip_negation(text)) == quick


@given(text=TEXTS)
def test_names_are_read_only_where_capitals_do_not_mark_nouns(text: str) -> None:
    after_a_word = r"(?:(?<=[^\W_] )|(?<=[^\W_], ))[^\W_]{2,}"
    expected = [] if capitalizes_nouns(text) else re.findall(after_a_word, text.rpartition(":")[2])
    assert names(text) == [name for name in expected if name[0].isupper() and not figures.is_unit(name)]


@given(text=TEXTS)
def test_figures_are_the_same_as_without_a_quick_test(text: str) -> None:
    line = normalize_line(text)
    assert line == figures._CLOCK.sub(r"\1", normalize(figures._IN_A_LIST.sub("", text)))
    quick = figures.figures(line)
    with patch.object(figures, "_has_number_word", return_value=True):
        assert figures.figures(line) == quick


@given(text=st.text(st.sampled_from("0123456789 ,.'’٣x"), max_size=30))
def test_numbers_are_split_at_the_same_places_as_without_a_common_first_digit(text: str) -> None:
    alternatives = r"\d{1,3}(?:[ '’]\d{3})+(?![\d'’])(?:[.,]\d+)?|\d+(?:[.,]\d+)*"
    assert figures._NUMBER.findall(text) == re.findall(alternatives, text)


@given(text=TEXTS)
def test_number_words_and_months_are_the_same_as_without_a_quick_test(text: str) -> None:
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", text)]
    numbers = {number_words._NUMBERS[word] for word in words if word in number_words._NUMBERS}
    characters = {number_words._CHARACTERS[char] for char in text if char in number_words._CHARACTERS}
    assert numbers_in_words(text) == numbers | characters
    months = [(before or after).lower() for before, after in number_words._IN_A_DATE.findall(text)]
    assert months_in_dates(text) == {number_words._MONTHS[month] for month in months if month in number_words._MONTHS}


@each("text", ["ſix lamps on 5 ſeptember", "sıx lamps on 5 APRİL"])
def test_letters_that_only_fold_to_a_word_name_no_figure(text: str) -> None:
    assert [text[figure.start : figure.end] for figure in figures.figures(text)] == ["5"]
    assert months_in_dates(text) == set()


@given(text=st.lists(st.one_of(TEXTS, st.just("x" * 390)), max_size=8).map(". A ".join), target=TEXTS, secondary=TEXTS)
def test_the_best_quote_is_the_window_with_the_highest_score(text: str, target: str, secondary: str) -> None:
    wanted, also = TERMS(target), TERMS(secondary)
    spans = quotes.quotable_spans(text)
    best, best_score = Quote(*(spans[0] if spans else (0, 0)), 0), float("-inf")
    for first, (start, _) in enumerate(spans):
        for window in range(1, MAX_QUOTE_SENTENCES + 1):
            end = spans[min(first + window, len(spans)) - 1][1]
            if first + window > len(spans) or (window > 1 and end - start > MAX_QUOTE_CHARS):
                break
            covered = frozenset[int]().union(*(TERMS(text[a:b]) for a, b in spans[first : first + window]))
            score = len(covered & wanted) + SECONDARY_WEIGHT * len(covered & also) - COST_OF_A_SENTENCE * (window - 1)
            if score > best_score:
                best, best_score = Quote(start, end, len(covered & wanted)), score
    assert quotes.best_quote(text, wanted, TERMS, secondary=also) == best


@given(text=TEXTS, claim=TEXTS)
def test_a_sentence_states_the_same_figures_as_without_a_quick_test(text: str, claim: str) -> None:
    line = normalize_line(text)
    sentence = Sentence(line, frozenset(), frozenset(), TERMS)
    stated = figures.figures(normalize_line(claim)) + list(sentence.figures)
    quick = [sentence.states(figure) for figure in stated]
    with patch.object(sentences, "WORD_NUMBERS", frozenset().union(*(figure.readings for figure in stated))):
        assert [sentence.states(figure) for figure in stated] == quick


REFUSALS = [pattern for language in refusals._REFUSALS for pattern in refusals._expand(language)]


@settings(max_examples=400, deadline=None)
@given(text=st.sampled_from(REFUSALS).flatmap(lambda one: st.from_regex(re.compile(one, re.IGNORECASE))))
def test_every_refusal_contains_a_word_of_the_quick_test(text: str) -> None:
    assert refusals._REFUSAL.search(text)
    assert refusals._REFUSAL_WORD.search(text)
