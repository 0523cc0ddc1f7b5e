"""Titles that a question names: pages of tables hold few of its words but in their title.

The title of a page is one of its first lines, or the heading above the chunk. A question names a title by its words,
as in "from the table of organs", or a financial statement by a figure that stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean

from rag.search.fusion import SearchResults
from rag.search.relevance import TermExtractor
from schemas import Chunk, Passage

# What the best possible title adds to the score of a chunk, which is from 0 to 1. Page hit@1/5/10 of 129 questions
# about 74 filings, by words: in the document 24.8/46.5/62.8 without titles and 53.5/76.0/83.7 with them, across all
# 20.2/38.0/48.8 and 46.5/62.8/69.0. Chosen on half of the companies; the other half gains the same.
TITLE_WEIGHT = 0.4
STATEMENT_WEIGHT = 1.6
# A single word in common is no name of a title.
MIN_WORDS = 2
# The statements of a business report: the words of its titles, and what people ask for that stands there.
_STATEMENTS = {
    "consolidated statements of income operations earnings": re.compile(
        r"""\b(?: income\ statement | p\ ?&\ ?l | profit\ and\ loss | statements?\ of\ (?:income|operations|earnings)
        | (?:gross|operating|net|pre-?tax)\ (?:income|profit|loss|earnings) | margins? | ebit(?:da)? | (?:net\ )?sales
        | revenues? | cogs | cost\ of\ (?:goods|sales|revenues?) | earnings\ per\ share | eps
        | effective\ tax\ rat(?:e|io) | interest\ coverage | sg&a | interest\ expenses?
        | operating\ expenses? | r&d\ expenses? )\b""",
        re.VERBOSE | re.IGNORECASE,
    ),
    "consolidated balance sheets statements of financial position": re.compile(
        r"""\b(?: balance\ sheets? | financial\ position
        | (?:quick|current|cash|acid[- ]test|liquidity|debt|leverage|solvency)\ ratio
        | cash\ conversion\ cycle | working\ capital
        | liquidity | inventor(?:y|ies) | assets? | liabilit(?:y|ies) | ppn?e | pp&e | property,\ plant | receivables?
        | payables? | d[psi]o | turnover | return\ on\ (?:average\ )?(?:assets|equity|capital) | roa | roe
        | (?:share|stock)holders['’]?\ equity | retained\ earnings | goodwill | debts? )\b""",
        re.VERBOSE | re.IGNORECASE,
    ),
    "consolidated statements of cash flows": re.compile(
        r"""\b(?: cash\ ?flows? | capital\ expenditures? | capex | capital[- ]intensive | dividends?\ paid
        | depreciation | amortization | d&a | (?:operating|investing|financing)\ activities )\b""",
        re.VERBOSE | re.IGNORECASE,
    ),
}


def statements_of(question: str) -> list[str]:
    """Return the words by which the financial statements that a question needs are titled."""
    return [titles for titles, asked in _STATEMENTS.items() if asked.search(question)]


class TitleFits:
    """How well the titles of chunks fit a question: 0 where no title is named."""

    def __init__(self, question: str, statements: Sequence[str], found: SearchResults, terms: TermExtractor) -> None:
        """`statements` are titles of financial statements, and `found` what a search for them has found."""
        self._asked = terms(question)
        self._statements = [terms(titles) for titles in statements]
        self._found = found
        self._idf: Mapping[int, float] = {}
        self._unknown = 1.0
        self._terms = terms

    def rank(self, passages: Sequence[Passage], idf: Mapping[int, float]) -> list[Passage]:
        """Return the passages, and those found for the statements in the same documents, best first.

        The scores hold the fits of titles, and are from 0 to 1. `idf` has the words of the question.
        """
        self._idf = {**self._found.idf, **idf}
        self._unknown = fmean(self._idf.values()) if self._idf else 1.0
        weights = 1 + TITLE_WEIGHT + (STATEMENT_WEIGHT if self._statements else 0)
        known = {passage.chunk.id for passage in passages}
        uploads = {passage.chunk.upload_id for passage in passages}
        others = {p.chunk.id: p.chunk for p in self._found.sparse if p.chunk.upload_id in uploads}
        more = [Passage(chunk, 0.0) for id_, chunk in others.items() if id_ not in known]
        scored = [
            Passage(found.chunk, (found.score + self._weighed(found.chunk)) / weights) for found in (*passages, *more)
        ]
        return sorted(scored, key=lambda found: (-round(found.score, 6), found.chunk.upload_id, found.chunk.index))

    def _weighed(self, chunk: Chunk) -> float:
        titles = [self._terms(title) for title in titles_of(chunk)]
        named = max((self._share(title, self._asked) for title in titles), default=0.0)
        stated = max((self._share(title, words) for title in titles for words in self._statements), default=0.0)
        return TITLE_WEIGHT * named + STATEMENT_WEIGHT * stated

    def _share(self, title: frozenset[int], words: frozenset[int]) -> float:
        """Return the share of a title's words, weighed by IDF, that are among `words`."""
        common = title & words
        if len(common) < MIN_WORDS:
            return 0.0
        return self._sum(common) / (self._sum(title) or 1.0)

    def _sum(self, terms: frozenset[int]) -> float:
        return sum(self._idf.get(term, self._unknown) for term in terms)


def titles_of(chunk: Chunk) -> list[str]:
    """Return the first lines of the chunk's page, where these are kept, or else the heading above the chunk."""
    return chunk.page_title.splitlines() or [chunk.section]
