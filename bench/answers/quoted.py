"""What an answer without a model shows: `make bench-answers DOCUMENTS=FOLDER`, with the files that questions.txt names.

Each question of questions.txt is asked of its document alone, by words. `shown`: the expected text is in a passage of
the answer; `first`: in its first one; `marked`: in the marked sentence of the first one. `declined`: no answer. The
baseline shows the first characters of the three best chunks, as many as a passage may have, and never declines.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

from cli.evaluate import temporary_services
from queues.wiring import Services, close_loop
from rag.answer.quoted_answer import quote_passages
from rag.citations.excerpts import MAX_EXCERPT_CHARS
from schemas import Answer, Passage, Query
from settings import LEXICAL_MODEL, Settings

QUESTIONS = Path(__file__).parent / "questions.txt"
BASELINE_CHUNKS = 3
_MARKUP = re.compile(r"[*_`]")


class Asked(NamedTuple):
    """A question about a document, and a text that answers it; "" if the document does not answer."""

    question: str
    expected: str

    def is_in(self, text: str) -> bool:
        """Return True if a text has the expected one."""
        return bool(self.expected) and _plain(self.expected) in _plain(text)


def report(folder: Path, *, locked: bool) -> None:
    """Print a row for each document; those that are held out only if `locked`."""
    print(
        f"\n{'answers without a model':<28}{'shown':>7}{'first':>7}{'marked':>7}{'baseline':>9}{'declined':>9}  of none"
    )
    for document, (held_out, asked) in read_asked(QUESTIONS).items():
        if not (folder / document).exists():
            print(f"{document}: not in {folder}")
        elif locked or not held_out:
            with temporary_services(
                Settings(embedding_model=LEXICAL_MODEL), [folder / document], quoting=True
            ) as opened:
                asyncio.run(print_row(f"{document}{', held out' if held_out else ''}", asked, opened))


def read_asked(path: Path) -> dict[str, tuple[bool, list[Asked]]]:
    """Return the questions by document, each with True if they are held out."""
    documents: dict[str, tuple[bool, list[Asked]]] = {}
    asked: list[Asked] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("@"):
            document, _, use = line[1:].partition("|")
            asked = []
            documents[document.strip()] = use.strip() == "held out", asked
        elif line and not line.startswith("#"):
            question, _, expected = line.partition(" | ")
            asked.append(Asked(question, "" if expected == "-" else expected))
    return documents


async def print_row(label: str, asked: list[Asked], services: Services) -> None:
    """Ask, and print how many of the questions have their expected text where, and how many are declined."""
    found = [await _ask(one, services) for one in asked]
    await close_loop()
    of_some = [(one, *rest) for one, *rest in zip(asked, *zip(*found, strict=True), strict=True) if one.expected]
    counts = [
        sum(any(map(one.is_in, _texts(answer))) for one, answer, _ in of_some),
        sum(any(map(one.is_in, _texts(answer)[:1])) for one, answer, _ in of_some),
        sum(any(map(one.is_in, _marked(answer))) for one, answer, _ in of_some),
        sum(any(one.is_in(passage.chunk.text[:MAX_EXCERPT_CHARS]) for passage in ranked) for one, _, ranked in of_some),
        sum(not answer.answered for _, answer, _ in of_some),
    ]
    of_none = [answer.answered for one, (answer, _) in zip(asked, found, strict=True) if not one.expected]
    widths = (7, 7, 7, 9, 9)
    cells = "".join(f"{count:>{width}}" for count, width in zip(counts, widths, strict=True))
    print(f"{label:<28}{cells} of {len(of_some)}  {of_none.count(False)} of {len(of_none)}", flush=True)


async def _ask(one: Asked, services: Services) -> tuple[Answer, list[Passage]]:
    retrieved = await services.retriever.retrieve(Query(query=one.question))
    return quote_passages(one.question, retrieved, services.retriever.terms), retrieved.ranked[:BASELINE_CHUNKS]


def _texts(answer: Answer) -> list[str]:
    """Return the passages of an answer as it shows them, best first."""
    return answer.text.split("\n\n")[1:] if answer.answered else []


def _marked(answer: Answer) -> list[str]:
    return [one.quote[slice(*one.highlight)] for one in answer.sources[:1] if one.highlight is not None]


def _plain(text: str) -> str:
    return " ".join(_MARKUP.sub("", text).lower().split())
