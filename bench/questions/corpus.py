"""A corpus of varied text, made from a seed: surveys of invented places as PDFs, and questions about them.

1,000 chunks of about 200 tokens, a few hundred pages. The same seed gives the same text on every machine.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

SEED = 12
DOCUMENTS = 12
SECTIONS_EACH = 24
SENTENCES_EACH = (10, 16)
SECTIONS_ON_A_PAGE = 1
WIDTH, HEIGHT, MARGIN = 595, 842, 60
HEADING = ParagraphStyle("heading", fontName="Helvetica-Bold", fontSize=13, leading=18, spaceAfter=6)
BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=10, leading=13)


def _vocabulary() -> dict[str, list[str]]:
    """Return the lists of vocabulary.txt by their names."""
    lists: dict[str, list[str]] = {}
    entries: list[str] = []
    for line in Path(__file__).with_name("vocabulary.txt").read_text().splitlines():
        if line.startswith("= "):
            entries = lists.setdefault(line[2:], [])
        elif line and not line.startswith("#"):
            entries.append(line)
    return lists


WORDS = _vocabulary()
PEOPLE, MATERIALS, TRADES = WORDS["people"], WORDS["materials"], WORDS["trades"]
SYLLABLES = [WORDS[part] for part in ("first syllables", "vowels", "last syllables")]


@dataclass(frozen=True, slots=True)
class Section:
    """A place of the survey, and what is written of it."""

    subject: str
    place: str
    person: str
    sentences: list[str]

    @property
    def heading(self) -> str:
        return f"The {self.subject} of {self.place}"

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


def make_corpus(seed: int = SEED) -> list[list[Section]]:
    """Return the sections of each document."""
    draw = random.Random(seed)
    taken: set[str] = set()
    return [[_section(draw, taken) for _ in range(SECTIONS_EACH)] for _ in range(DOCUMENTS)]


def write_pdfs(corpus: list[list[Section]], folder: Path) -> None:
    """Write each document as a PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sections in enumerate(corpus, start=1):
        canvas = Canvas(str(folder / f"survey-{number:02}.pdf"), pagesize=(WIDTH, HEIGHT), invariant=True)
        for start in range(0, len(sections), SECTIONS_ON_A_PAGE):
            top = float(HEIGHT - MARGIN)
            for section in sections[start : start + SECTIONS_ON_A_PAGE]:
                for text, style in ((section.heading, HEADING), (section.text, BODY)):
                    paragraph = Paragraph(text, style)
                    _, used = paragraph.wrap(WIDTH - 2 * MARGIN, HEIGHT)
                    top -= used
                    paragraph.drawOn(canvas, MARGIN, top)
                    top -= 6
            canvas.showPage()
        canvas.save()


def questions(corpus: list[list[Section]], seed: int = SEED) -> Iterator[str]:
    """Yield different questions about the corpus without end; from the second round on each ends in a number."""
    numbers = itertools.count(1)
    draw = random.Random(seed + 1)
    sections = list(itertools.chain.from_iterable(corpus))
    pairs = [(section, frame) for section in sections for frame in WORDS["questions"]]
    for round_number in itertools.count(1):
        draw.shuffle(pairs)
        for section, frame in pairs:
            year = draw.randrange(1700, 1990)
            asked = frame.format(subject=section.subject, place=section.place, person=section.person, year=year)
            yield asked if round_number == 1 else f"{asked} ({draw.choice(TRADES)}, enquiry {next(numbers)})"


def _section(draw: random.Random, taken: set[str]) -> Section:
    """Make a section about a place and a person that no other section is about."""
    place, name = _new_name(draw, taken), _new_name(draw, taken)
    subject, person = draw.choice(WORDS["subjects"]), f"{draw.choice(PEOPLE)} {name}"
    frames = draw.sample(WORDS["sentences"], draw.randint(*SENTENCES_EACH))
    return Section(subject, place, person, [_sentence(draw, frame, subject, place, person) for frame in frames])


def _sentence(draw: random.Random, frame: str, subject: str, place: str, person: str) -> str:
    return frame.format(
        subject=subject,
        place=place,
        person=person,
        other=f"{draw.choice(PEOPLE)} {_name(draw)}",
        town=_name(draw),
        material=draw.choice(MATERIALS),
        second=draw.choice(MATERIALS),
        trade=draw.choice(TRADES),
        trades=draw.choice(TRADES),
        year=draw.randrange(1700, 1990),
        later=draw.randrange(1990, 2024),
        small=draw.randrange(3, 60),
        number=draw.randrange(60, 990),
        large=f"{draw.randrange(1, 90)},{draw.randrange(100, 999)}",
        tenth=f"{draw.randrange(1, 40)}.{draw.randrange(1, 9)}",
        share=draw.randrange(5, 95),
    )


def _new_name(draw: random.Random, taken: set[str]) -> str:
    name = _name(draw)
    while name in taken:
        name = _name(draw)
    taken.add(name)
    return name


def _name(draw: random.Random) -> str:
    return "".join(draw.choice(part) for part in SYLLABLES).capitalize()
