"""The documents and questions of a run. Each document is about places that no other document is about."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.pdfs import write_pdf

# Chunks of a text: up to three batches of embeddings.
CHUNKS = (10, 150)
PDF_PAGES = 12
SENTENCES_OF_A_CHUNK = 9
PEOPLE = ("Tamsin Vale", "Oda Brand", "Ruben Hale", "Ines Corvo", "Piet Marsh")
THINGS = ("lighthouse", "bridge", "harbour", "mill", "chapel")


def write_document(folder: Path, number: int, seed: int) -> Path:
    """Write a document, every third a PDF, and return its path."""
    draw = random.Random(seed * 1_000 + number)
    first = f"The {THINGS[number % 5]} of {place(number)} was built in {year(number)} by {draw.choice(PEOPLE)}."
    if number % 3 == 0:
        pages = [" ".join([first, *_sentences(draw, number, page)]) for page in range(PDF_PAGES)]
        return write_pdf(folder / name(number), pages)
    path = folder / name(number)
    chunks = [" ".join(_sentences(draw, number, chunk)) for chunk in range(draw.randint(*CHUNKS))]
    path.write_text("\n\n".join([first, *chunks]))
    return path


def name(number: int) -> str:
    return f"survey-{number}.{'pdf' if number % 3 == 0 else 'txt'}"


def question(document: int, number: int) -> str:
    """Return a question that a document answers. By its number the provider's log knows the question."""
    return f"When was the {THINGS[document % 5]} of {place(document)} built? (enquiry {number})"


def place(number: int) -> str:
    """Return the name of a place that only one document is about."""
    syllables = ("ar", "bel", "cor", "dun", "el", "fen", "gar", "hol", "in", "jor", "kel", "lom")
    return (syllables[number % 12] + syllables[number // 12 % 12] + syllables[number // 144 % 12]).title() + " Point"


def year(number: int) -> int:
    return 1_700 + number * 37 % 250


def _sentences(draw: random.Random, number: int, part: int) -> list[str]:
    return [
        f"In {draw.randint(1700, 1950)} {draw.choice(PEOPLE)} of {place(number)} counted {draw.randint(10, 9_999)} "
        f"{draw.choice(('boats', 'sacks', 'lanterns', 'stones', 'ropes'))} for section {part} of the survey."
        for _ in range(SENTENCES_OF_A_CHUNK)
    ]
