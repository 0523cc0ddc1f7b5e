"""The tables of a page as parts of chunks: each repeats the table's caption and unit, and names what a figure is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from rag.text.normalize import estimate_tokens
from schemas import Page, PageTable, Place, TableLine

# An embedding model with an input of 512 tokens reads a part of a table to its end.
TABLE_TOKENS = 400
# A blank line between two rows: each can be quoted alone.
_GAP = "\n\n"


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows of a table for one chunk."""

    text: str
    places: tuple[Place, ...]


def table_parts(page: Page, table: PageTable) -> Iterator[TablePart]:
    """Yield a table in parts of at most TABLE_TOKENS, or of one row. Each begins with the lines of the context."""
    head = sum(estimate_tokens(line.text) for line in table.context)
    rows: list[TableLine] = []
    size = head
    for row in table.rows:
        tokens = estimate_tokens(row.text)
        if rows and size + tokens > TABLE_TOKENS:
            yield _part(page, (*table.context, *rows))
            rows, size = [], head
        rows.append(row)
        size += tokens
    if rows:
        yield _part(page, (*table.context, *rows))


def _part(page: Page, table_lines: Sequence[TableLine]) -> TablePart:
    text = ""
    places = []
    for line, after in zip_longest(table_lines, table_lines[1:]):
        text += _GAP if text else ""
        # With the space up to the next line, so that both can be quoted as one.
        together = after is not None and line.end <= after.start and not page.text[line.end : after.start].strip()
        end = after.start if together else line.end
        places.append(Place(at=len(text), start=line.start, original=page.text[line.start : end]))
        text += line.text
    return TablePart(text, tuple(places))


def ranges(start: int, end: int, count: int) -> list[tuple[int, int]]:
    """Divide the text from `start` to `end` among the parts of a table, so that neighbours touch."""
    cuts = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(cuts))
