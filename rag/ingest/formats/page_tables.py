"""The tables of a PDF page in terms of the text that is stored of it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from rag.ingest.formats.blocks import TextLine, TextTable, clean_text
from rag.ingest.formats.pdf_tables import PdfTable, find_tables, may_have_table
from rag.ingest.formats.pdf_words import Word, page_words

# The CPU seconds for all tables of a file. A page with a table takes 6 ms more.
MAX_TABLE_SECONDS: Final = 6.0


class TableReader:
    """Reads the tables of one PDF, within a limit of CPU time. `stored` makes a stored text of a raw one."""

    def __init__(self, stored: Callable[[str], str]) -> None:
        self._stored = stored
        self._seconds = 0.0

    def read(self, text_page: Any, raw_text: str) -> tuple[TextTable, ...]:
        """Return the tables of an open text page; none once the tables of the file have taken MAX_TABLE_SECONDS."""
        if self._seconds > MAX_TABLE_SECONDS or not may_have_table(raw_text):
            return ()
        began = time.process_time()
        words = page_words(text_page, raw_text)
        found = find_tables(words)
        tables = text_tables(found, words, raw_text, self._stored) if found else ()
        self._seconds += time.process_time() - began
        return tables


def text_tables(
    tables: Sequence[PdfTable], words: Sequence[Word], raw_text: str, stored: Callable[[str], str]
) -> tuple[TextTable, ...]:
    """Return tables with offsets in the stored text. `stored` makes it of a beginning of the raw text.

    A table replaces the lines of text that hold nothing but words of tables. Where such lines are not together, the
    table replaces none, and stands behind the text in which it begins.
    """
    runs = _runs(tables, words, raw_text)
    places: list[tuple[int, int]] = []
    for table in tables:
        run = max(runs, key=lambda one: _shared(table, one), default=(0, 0))
        if 2 * _shared(table, run) <= len(table.words):
            first = min(table.words)
            run = (first, first)
        elif any(run[0] < end for _, end in places):
            run = (run[1], run[1])
        places.append(run)
    at = _offsets(raw_text, stored, _wanted(tables, places))
    made = [
        TextTable(at[start], at[end], _moved(table.context, at), _moved(table.rows, at))
        for table, (start, end) in zip(tables, places, strict=True)
    ]
    return tuple(sorted(made, key=lambda table: table.start))


def _runs(tables: Sequence[PdfTable], words: Sequence[Word], raw_text: str) -> list[tuple[int, int]]:
    """Return the parts of the raw text that are whole lines of nothing but words of tables."""
    inside = {start for table in tables for start in table.words}
    breaks = [number for number, char in enumerate(raw_text) if char == "\n"]
    by_line: dict[int, list[Word]] = {}
    for word in words:
        by_line.setdefault(bisect_right(breaks, word.start), []).append(word)
    runs: list[tuple[int, int]] = []
    is_open = False
    for number in sorted(by_line):
        line = by_line[number]
        whole = all(word.leader or word.start in inside for word in line)
        if whole and is_open:
            runs[-1] = (runs[-1][0], line[-1].end)
        elif whole:
            runs.append((line[0].start, line[-1].end))
        is_open = whole
    return runs


def _shared(table: PdfTable, run: tuple[int, int]) -> int:
    return sum(run[0] <= start < run[1] for start in table.words)


def _wanted(tables: Iterable[PdfTable], places: Iterable[tuple[int, int]]) -> list[int]:
    lines = [line for table in tables for line in (*table.context, *table.rows)]
    return sorted({*(at for line in lines for at in (line.start, line.end)), *(at for place in places for at in place)})


def _offsets(raw_text: str, stored: Callable[[str], str], wanted: list[int]) -> dict[int, int]:
    """Return where each offset of the raw text is in the stored text. Offsets are those of words."""
    found: dict[int, int] = {}
    length = before = 0
    for at in wanted:
        part = raw_text[before:at]
        if before and not stored(raw_text[before - 1]):  # a word is divided here: the line feed goes, too
            part = part.lstrip("\r\n")
        length += len(clean_text(stored(part)))
        found[at] = length
        before = at
    return found


def _moved(lines: Iterable[TextLine], at: dict[int, int]) -> tuple[TextLine, ...]:
    return tuple(TextLine(clean_text(line.text), at[line.start], at[line.end]) for line in lines)
