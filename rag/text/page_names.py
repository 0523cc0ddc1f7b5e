"""Names of pages as a reader would write them."""

from __future__ import annotations

import re

MAX_LABEL_CHARS = 20
# What the labels of files without pages begin with: "Sheet Q3, rows 2–41", "Slide 4", "File minutes.pdf, page 2".
_PLACES = ("Sheet ", "Slide ", "Rows ", "Section ", "Lines ", "Line ", "Records ", "File ", "Message ")
MAX_SECTION_CHARS = 80
_SECTION_WORD = re.compile(r"^section\s+", re.IGNORECASE)
_BRACKETS = str.maketrans("[]", "()")
_PAGE_WORD = re.compile(r"^(?:page|p\.|pg\.)\s*", re.IGNORECASE)
# A word such as "iv" or "Cover", or a number with perhaps a word before it and a letter after it: "12", "A-3", "5b".
# Any other label is a remnant of the program that wrote the file, such as "0page".
_PRINTED = re.compile(r"[^\W\d_]+|(?:[^\W\d_]+[-–. ]?)?\d+(?:[-–./:]\d+)*[a-z]?")


def is_place(label: str) -> bool:
    """Return True for the label of a part of a file without pages, which says itself where that is."""
    return label.startswith(_PLACES)


def printed_label(label: str) -> str:
    """Return the page label without the word "page"; empty for a label that no reader would take for a page number."""
    if is_place(label):
        return " ".join(label.split())
    label = _PAGE_WORD.sub("", " ".join(label.split()))
    return label if len(label) <= MAX_LABEL_CHARS and _PRINTED.fullmatch(label) else ""


def place_name(label: str, section: str, lines: tuple[int, int]) -> str:
    """Return "Section 4.2 Lamps, lines 120–131" for the lines of a file; a file inside a file is named before them.

    A heading is the text of a document: it must not look like a citation.
    """
    section = " ".join(_SECTION_WORD.sub("", section).translate(_BRACKETS).split())
    if len(section) > MAX_SECTION_CHARS:
        section = f"{section[:MAX_SECTION_CHARS].rpartition(' ')[0] or section[:MAX_SECTION_CHARS]}…"
    first, last = lines
    parts = [label] if is_place(label) else []
    parts += [f"Section {section}"] if section else []
    parts.append(f"line {first}" if first == last else f"lines {first}–{last}")
    place = ", ".join(parts)
    return place[0].upper() + place[1:]


def page_name(page: int, label: str) -> str:
    """Return "page 4", or "page iv (page 6 of the file)" where the printed label differs from the place in the file.

    `page` counts from 1.
    """
    printed = printed_label(label)
    if is_place(printed):
        return printed
    if not printed or printed.lstrip("0") == str(page):
        return f"page {page}"
    return f"page {printed} (page {page} of the file)"
