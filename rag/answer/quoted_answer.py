"""An answer without a model: the best excerpts of the documents, with their pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

from rag.answer.line_items import line_words
from rag.answer.table_rows import best_rows
from rag.citations.check import build_source
from rag.citations.excerpts import Excerpt, Excerpts
from rag.ingest.chunking import title_from_name
from rag.search.neighbours import page_key
from rag.search.places import prose_parts
from rag.search.question import read_question
from rag.search.relevance import TermExtractor
from rag.search.retriever import RetrievalResult
from rag.search.titles import statements_of
from rag.text.invisible import strip_controls
from rag.text.language import content_words, language_of, phrases
from rag.text.normalize import sentence_spans
from rag.text.page_names import page_name
from schemas import Answer, Confidence, Passage, Source

MAX_QUOTES = 3
# Each of so many best chunks may have an excerpt of its own.
MAX_CHUNKS = 20
# A passage is quoted beside the best one when its score is at least this share of the best. With 0.5, short answers to
# 82 of 231 questions about 93 documents of many kinds (MMLongBench-Doc) are shown, and 64 % of the citations of the
# sample handbook name a right page; with 0.75 these are 74 questions and 76 %.
MIN_SCORE_SHARE = 0.5
# Below the lower score, a passage that the search does not find relevant either is no answer.
MIN_EXCERPT_SCORE = 0.1
HIGH_EXCERPT_SCORE = 0.75
MAX_MISSING_WORDS = 5
# What stands between two rows in a chunk, and in an answer.
ROW_GAP, ROW_END = "\n\n", "; "
# A word with a digit, or words that begin with a capital and follow each other: a name.
_NAME_OR_NUMBER = re.compile(r"(?<!^)(?<![.!?:]\s)(?:\b[A-ZÀ-ÖØ-Þ][\w’'&-]*(?:\s+(?=[A-ZÀ-ÖØ-Þ]))?)+|\w*\d[\w.,]*")
_FIGURES = re.compile(r"\d[\d.,]*")
_SHORT_YEAR = re.compile(r"(?:FY|CY)['’]?\d\d", re.IGNORECASE)
_PERIOD = re.compile(r"(?:FY|CY|YTD|LTM|TTM)[’'.]?", re.IGNORECASE)
# Words with a capital that name nothing a document must have: OK or UK, a Roman numeral, a kind of place.
_SAYS_LITTLE = re.compile(
    r"\d|[^\W\d]{1,2}|(?-i:[IVX]+)|page|slide|sheet|section|chapter|table|figure|chart|report", re.IGNORECASE
)
# A long word without figures is a misspelt one if it is as like another as "Netfilx" is like "Netflix".
_LONG_WORD = re.compile(r"[^\W\d_]{6,}")
MIN_LIKENESS = 0.85
_ABBREVIATION = re.compile(r"\(([A-Z][A-Za-z&]{1,6})\)")
_LANGUAGES_THAT_CAPITALIZE_NOUNS = frozenset({"de"})


class _Quoted(NamedTuple):
    passage: Passage
    excerpt: Excerpt

    @property
    def text(self) -> str:
        """The excerpt as it is shown: of a table in the words that name what each figure is, row after row."""
        text = self.passage.chunk.text[self.excerpt.start : self.excerpt.end]
        return ROW_END.join(text.split(ROW_GAP)) if self.passage.chunk.places else text

    def in_head(self, other: _Quoted) -> bool:
        """Return True if the excerpt is a caption or header that the other is shown with."""
        head = other.excerpt.head
        return bool(head) and head[0][0] <= self.excerpt.start and self.excerpt.end <= head[-1][1]

    @property
    def score(self) -> float:
        return self.passage.score * (1 + self.excerpt.score)


def quote_passages(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> Answer:
    """Quote the passages that fit the question best, each with its page, best first.

    Declines if a name or number of the question stands in no passage, or if no passage fits.
    """
    quoted = _quoted(question, retrieved, terms)
    names = [] if retrieved.not_searched else _names_and_numbers(_asking(read_question(question).text))
    words = [word for name in names for word in name.split() if not _SAYS_LITTLE.fullmatch(word)]
    missing = _without_misspelt(_missing(words, retrieved, terms), retrieved)
    fits = any(one.excerpt.score >= MIN_EXCERPT_SCORE for one in quoted)
    if missing or not quoted or not (fits or retrieved.relevant):
        return Answer(text=_nothing_found(question, missing, retrieved, terms), answered=False)
    sentences = phrases(question)
    confidence = _confidence(quoted[0].excerpt.score, relevant=retrieved.relevant)
    header = sentences.quoted if confidence != "low" else f"{sentences.quoted} {sentences.may_not_answer}"
    sources = tuple(_source(n, one) for n, one in enumerate(quoted, start=1))
    lines = [
        f"“{_head(one)}{_in_one_line(one.text)}” [{source.n}] — {source.name}, "
        f"{page_name(source.page, source.page_label)}"
        for one, source in zip(quoted, sources, strict=True)
    ]
    if retrieved.not_searched and confidence == "low":
        lines.append(not_searched(question, retrieved.not_searched))
    return Answer(text="\n\n".join([header, *lines]), sources=sources, confidence=confidence)


def _in_one_line(quote: str) -> str:
    """Return a quote for the text of an answer. Documents indexed by earlier versions may hold control characters."""
    return strip_controls(" ".join(quote.split()))


def _head(quoted: _Quoted) -> str:
    """Return the caption and the header of the table that an excerpt is from; empty if the excerpt has them."""
    text = quoted.passage.chunk.text
    head = " ".join(_in_one_line(text[start:end]) for start, end in quoted.excerpt.head)
    return f"{head} … " if head else ""


def _source(n: int, quoted: _Quoted) -> Source:
    excerpt = quoted.excerpt
    source = build_source(n, quoted.passage, excerpt.start, excerpt.end)
    best = build_source(n, quoted.passage, *excerpt.highlight)
    begin, end = best.start - source.start, best.end - source.start
    inside = begin >= 0 and end <= len(source.quote)  # of a table, the quote may be the row alone
    return source.model_copy(update={"highlight": (begin, end) if inside else (0, len(source.quote))})


def _quoted(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> list[_Quoted]:
    """Return the passages worth quoting, best first, without excerpts that contain each other."""
    found = [one for passage in retrieved.passages for one in _excerpts(question, passage, retrieved, terms)]
    found.sort(key=lambda one: -one.score)
    best = max((one.passage.score for one in found), default=0.0)
    chosen: list[_Quoted] = []
    for one in found:
        fits = one.passage.score >= MIN_SCORE_SHARE * best or _is_rival(one, found[0])
        if fits and not any(_repeats(one, other) for other in chosen):
            chosen.append(one)
    return chosen[:MAX_QUOTES]


def _excerpts(question: str, passage: Passage, retrieved: RetrievalResult, terms: TermExtractor) -> Iterator[_Quoted]:
    """Yield the best excerpt of each found chunk of a passage, with the score of the chunk: a passage may be long."""
    whole, query_terms = passage.chunk, retrieved.query_terms
    if not query_terms.matches_follow_up(terms(whole.text)):
        return
    secondary = terms(question)
    if whole.places:  # the lines of tables stand elsewhere on the page
        place = f"{whole.name} {whole.section}"
        found = [_row(question, passage, retrieved, terms)]
        for start, text in prose_parts(whole):
            excerpt = Excerpts(text, query_terms, terms, secondary=secondary).best(place)
            found.append(None if excerpt is None else excerpt.moved(start))
        best = [one for one in found if one is not None]
        if not best:  # the words of the question stand in a caption or a header
            whole_text = Excerpts(whole.text, query_terms, terms, secondary=secondary).best(place)
            best = [] if whole_text is None else [whole_text]
        yield from (_Quoted(passage, one) for one in best)
        return
    excerpts = Excerpts(whole.text, query_terms, terms, secondary=secondary)
    for chunk, score in retrieved.ranked[:MAX_CHUNKS]:
        if page_key(chunk) == page_key(whole) and whole.start <= chunk.start and chunk.end <= whole.end:
            place = f"{chunk.name} {chunk.section}"
            excerpt = excerpts.best(place, chunk.start - whole.start, chunk.end - whole.start)
            if excerpt is not None:
                yield _Quoted(Passage(whole, score), excerpt)


def _row(question: str, passage: Passage, retrieved: RetrievalResult, terms: TermExtractor) -> Excerpt | None:
    """Return the best rows of the tables of a passage. What names the document does not tell rows apart."""
    whole, target = passage.chunk, retrieved.query_terms.terms
    named = terms(f"{title_from_name(whole.name)} {' '.join(_names_of_document(question, whole.name))}")
    return best_rows(whole, target - named or target, terms(line_words(question)), terms)


def _names_of_document(question: str, name: str) -> list[str]:
    """Return the names in a question that stand in the name of a document, whose words may be joined there."""
    letters = "".join(filter(str.isalpha, name)).casefold()
    return [
        one
        for one in _names_and_numbers(question)
        if (of_name := "".join(filter(str.isalpha, one)).casefold()) and of_name in letters
    ]


def _repeats(one: _Quoted, other: _Quoted) -> bool:
    """Return True if two excerpts have half of the shorter one in common, or one is the other's caption."""
    if one.text in other.text or other.text in one.text:
        return True
    if one.passage.chunk is other.passage.chunk and (one.in_head(other) or other.in_head(one)):
        return True
    common = min(one.excerpt.end, other.excerpt.end) - max(one.excerpt.start, other.excerpt.start)
    shorter = min(len(one.text), len(other.text))
    return one.passage.chunk is other.passage.chunk and 2 * common > shorter


def _is_rival(one: _Quoted, best: _Quoted) -> bool:
    """Return True for an excerpt of another document that has no less of the question: it may answer otherwise."""
    return one.passage.chunk.upload_id != best.passage.chunk.upload_id and one.excerpt.score >= best.excerpt.score


def _confidence(score: float, *, relevant: bool) -> Confidence:
    """Return how likely the best excerpt answers, by the words of the question that it has."""
    if not relevant:
        return "low"
    return "high" if score >= HIGH_EXCERPT_SCORE else "medium"


def not_searched(question: str, documents: int) -> str:
    """Return the sentence for documents that were not searched, since they are still being indexed."""
    return f"{phrases(question).not_searched} {documents}."


def _asking(question: str) -> str:
    """Return the sentences that ask, without abbreviations of words before them: "cash conversion cycle (CCC)".

    What other sentences say, such as how a ratio is defined, need not stand in a document.
    """
    short = _ABBREVIATION.findall(question)
    sentences = [question[start:end] for start, end in sentence_spans(question)]
    asking = " ".join([one for one in sentences if _asks(one)] or sentences)
    return re.sub(rf"\b(?:{'|'.join(map(re.escape, short))})\b", "", asking) if short else asking


def _asks(sentence: str) -> bool:
    return any(mark in sentence for mark in "?？؟")


def _names_and_numbers(question: str) -> list[str]:
    """Return the names and numbers of a question; numbers alone where a capital says nothing.

    What a statement has under another name, such as EBITDA, need not be found as it is.
    """
    found = [match[0].strip() for match in _NAME_OR_NUMBER.finditer(question)]
    content = content_words(question)
    says_nothing = language_of(question) in _LANGUAGES_THAT_CAPITALIZE_NOUNS or all(map(_is_capitalized, content))
    words = frozenset(content)
    return [
        name
        for name in found
        if not _PERIOD.fullmatch(name)
        and not statements_of(name)
        and (any(map(str.isdigit, name)) or not says_nothing)
        and not words.isdisjoint(re.findall(r"[\w’'-]+", name))
    ]


def _is_capitalized(word: str) -> bool:
    return not word[0].islower()


def _missing(words: list[str], retrieved: RetrievalResult, terms: TermExtractor) -> list[str]:
    """Return the words of which no ranked chunk contains a part. A rare word ranks its chunks first."""
    missing = {word: of_word for word in dict.fromkeys(words) if (of_word := terms(_number_of(word)))}
    for passage in retrieved.ranked:
        if not missing:
            break
        found = terms(f"{passage.chunk.name} {passage.chunk.section} {passage.chunk.text}")
        missing = {word: of_word for word, of_word in missing.items() if not of_word & found}
    return list(missing)


def _without_misspelt(words: list[str], retrieved: RetrievalResult) -> list[str]:
    """Return the words that no ranked chunk, nor the name of its document, has with another letter or two.

    At most MAX_MISSING_WORDS words: one is enough to decline.
    """
    if not words:
        return []
    texts = (f"{passage.chunk.name} {passage.chunk.text}" for passage in retrieved.ranked)
    found = {word for text in texts for word in _LONG_WORD.findall(text.casefold())}
    return [word for word in words[:MAX_MISSING_WORDS] if not _is_misspelt(word.casefold(), found)]


def _is_misspelt(word: str, known: set[str]) -> bool:
    alike = [one for one in known if one[0] == word[0]]
    return _LONG_WORD.fullmatch(word) is not None and bool(get_close_matches(word, alike, 1, MIN_LIKENESS))


def _number_of(word: str) -> str:
    """Return the figures of a word such as FY2021 or E17, which say more than its letters; the word if it has none.

    A year of two figures is written with four elsewhere, so nothing is to be found of FY21.
    """
    figures = " ".join(_FIGURES.findall(word))
    return "" if _SHORT_YEAR.fullmatch(word) else figures or word


def _nothing_found(question: str, missing: list[str], retrieved: RetrievalResult, terms: TermExtractor) -> str:
    """Return a sentence that nothing was found, and the words of the question that no ranked chunk contains.

    While some documents are not searched, nobody knows which words they contain.
    """
    sentences = phrases(question)
    if retrieved.not_searched:
        return f"{sentences.nothing_found} {not_searched(question, retrieved.not_searched)}"
    if not sentences.missing:
        return sentences.nothing_found
    words = _missing(content_words(read_question(question).text), retrieved, terms) or missing
    if not words:
        return sentences.nothing_found
    return f"{sentences.nothing_found} {sentences.missing} {', '.join(words[:MAX_MISSING_WORDS])}."
