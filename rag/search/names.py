"""Which documents a question names."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from rag.ingest.chunking import title_from_name
from rag.search.relevance import TermExtractor

# Each of at most so many named documents is searched by itself; more of them are searched together.
MAX_NAMED = 4
# A document is named when the question holds this share of its name's words without digits, weighted by IDF. Of 560
# questions about 99 documents (filings, papers, reports, a speech, a manual) this finds every named document; of the
# questions that name none, 2 % seem to. With a share of 0.5 they are 7 %, with 0.4 12 %.
MIN_NAME_SHARE = 0.6
# How many neighbouring words of a question are joined: "American Water Works" is AMERICANWATERWORKS in a file name.
MAX_JOINED = 3
_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['’]s\b")


def joined_words(question: str) -> list[str]:
    """Return each two and three neighbouring words of a question as one word; numbers are not joined."""
    words = _WORD.findall(_POSSESSIVE.sub("", question))
    return [
        "".join(words[at : at + count])
        for count in range(2, MAX_JOINED + 1)
        for at in range(len(words) - count + 1)
        if not any(word.isdigit() for word in words[at : at + count])
    ]


def name_fits(question: str, names: Mapping[str, str], terms: TermExtractor) -> dict[str, float]:
    """Return how well the name of each document fits a question, 0 to 1; only documents with a word in common.

    `names` maps the ids of uploads to names. A fit is the IDF, among these names, of the words in common.
    """
    return _fits(terms(f"{question} {' '.join(joined_words(question))}"), names, terms)[0]


def named_documents(question: str, names: Mapping[str, str], terms: TermExtractor) -> dict[str, float]:
    """Return the documents that a question names, with their fits: the MAX_NAMED best, and all that fit as well.

    Empty when there is only one document.
    """
    if len(names) < 2:  # noqa: PLR2004  nothing to choose among
        return {}
    fits, shares = _fits(terms(f"{question} {' '.join(joined_words(question))}"), names, terms)
    named = sorted((fits[upload] for upload, share in shares.items() if share >= MIN_NAME_SHARE), reverse=True)
    if not named:
        return {}
    least = named[:MAX_NAMED][-1]
    return {
        upload: fits[upload] for upload, share in shares.items() if share >= MIN_NAME_SHARE and fits[upload] >= least
    }


def _fits(
    question: frozenset[int], names: Mapping[str, str], terms: TermExtractor
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the fits of documents, and the shares of their names' words that are in the question."""
    titles = {upload: title_from_name(name) for upload, name in names.items()}
    by_upload = {upload: terms(title) for upload, title in titles.items()}
    counts = Counter(term for in_name in by_upload.values() for term in in_name)
    idf = {term: math.log(1 + (len(names) - count + 0.5) / (count + 0.5)) for term, count in counts.items()}
    fits, shares = {}, {}
    for upload, in_name in by_upload.items():
        common = in_name & question
        if not common:
            continue
        fits[upload] = sum(idf[term] for term in common)
        words = terms(" ".join(filter(str.isalpha, titles[upload].split()))) or in_name
        total = sum(idf[term] for term in words)
        shares[upload] = sum(idf[term] for term in words & question) / total if total else 0.0
    highest = max(fits.values(), default=0.0) or 1.0
    return {upload: fit / highest for upload, fit in fits.items()}, shares
