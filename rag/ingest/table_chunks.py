"""The tables of a page as parts of chunks: each repeats the table's caption, unit and header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, zip_longest

from rag.ingest.layout import Line
from rag.ingest.spans import bounded_spans
from rag.text.normalize import estimate_tokens
from schemas import Page, PageTable, Place, TableLine

# An embedding model with an input of 512 tokens reads a part of a table to its end.
TABLE_TOKENS = 400
# What each part repeats takes no more of this.
CONTEXT_TOKENS = 150
# So many headings right above a table, each of so many characters, begin the first part.
MAX_HEADINGS, MAX_HEADING_CHARS = 3, 200
# A blank line between two rows: each can be quoted alone.
_GAP = "\n\n"
# What stands between the cells of a row.
_CELL_GAP = " | "


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows of a table for one chunk. The first row begins at `start` of the page's text."""

    text: str
    places: tuple[Place, ...]
    start: int


def is_verbatim(table: PageTable) -> bool:
    """Return True for a table whose lines the page's text has as they are."""
    return not table.rows[0].text


def tables_of(page: Page) -> tuple[list[tuple[int, int]], list[PageTable]]:
    """Return the spans of tables that are chunks of text with their captions, in order, and the tables in parts."""
    spans: list[tuple[int, int]] = []
    apart: list[PageTable] = []
    for table in page.tables:
        span = _span_in_text(page, table) if is_verbatim(table) else None
        if span is None:
            apart.append(table)
        else:
            spans.append((max(span[0], spans[-1][1] if spans else 0), span[1]))
    return spans, apart


def _span_in_text(page: Page, table: PageTable) -> tuple[int, int] | None:
    """Return from where to where a table stands in the text with its caption; None if it needs parts.

    A table without lines to repeat, or with all of them beside it, in one chunk, needs none.
    """
    if not table.context and not any(line.names_rows for line in table.rows):
        return table.start, table.end
    start = min([table.start, *(line.start for line in table.context)])
    end = max([table.end, *(line.end for line in table.context)])
    whole = all(line.end > line.start for line in table.context)
    return (start, end) if whole and estimate_tokens(page.text[start:end]) <= TABLE_TOKENS else None


def lines_above(run: list[Line], table: PageTable) -> tuple[list[Line], list[Line]]:
    """Return a run of lines without those that go with the table below, and these: caption and headings right above."""
    if not is_verbatim(table):
        return run, []
    first = min([table.start, *(line.start for line in table.context if line.end > line.start)])
    begin = len(run)
    while begin and run[begin - 1].start >= first:
        begin -= 1
    for _ in range(MAX_HEADINGS):
        if begin and run[begin - 1].marked and len(run[begin - 1].text) <= MAX_HEADING_CHARS:
            begin -= 1
    return run[:begin], run[begin:]


def table_parts(page: Page, table: PageTable, lead: Sequence[Line] = ()) -> Iterator[TablePart]:
    """Yield a table in parts of at most TABLE_TOKENS, or of one row. Each begins with the lines of the context.

    The first begins with `lead`, the lines right above.
    """
    context = list(_bounded_context(page, table))
    title = [line for line in table.context if line.names_rows]  # that of the row which comes next
    head = sum(_tokens(page, line) for line in context)
    said = [(line.start, line.end) for line in context]
    above = [
        TableLine(text="", start=line.start, end=line.end)
        for line in lead
        if not any(start <= line.start < end for start, end in said)
    ]
    above += [*context, *title]
    rows: list[TableLine] = []
    size = sum(_tokens(page, line) for line in above)
    for row in chain.from_iterable(_bounded_rows(line, page, TABLE_TOKENS - head) for line in table.rows):
        tokens = _tokens(page, row)
        if rows and size + tokens > TABLE_TOKENS:
            yield _part(page, above, rows)
            above, rows = [*context, *([] if row.names_rows else title)], []
            size = sum(_tokens(page, line) for line in above)
        rows.append(row)
        size += tokens
        if row.names_rows:
            title = [row] if tokens < CONTEXT_TOKENS else []
    if rows:
        yield _part(page, above, rows)


def _tokens(page: Page, line: TableLine) -> int:
    return estimate_tokens(line.text or page.text[line.start : line.end])


def _bounded_context(page: Page, table: PageTable) -> Iterator[TableLine]:
    size = 0
    for line in table.context:
        size += _tokens(page, line)
        if size <= CONTEXT_TOKENS and not line.names_rows:
            yield line


def _bounded_rows(row: TableLine, page: Page, limit: int) -> Iterator[TableLine]:
    """Yield a row; a very long one that the page has as it is in several lines."""
    if row.text:
        yield row
        return
    for start, end in bounded_spans(page.text, row.start, row.end, limit):
        yield TableLine(text="", start=start, end=end, names_rows=row.names_rows)


def _part(page: Page, head: Sequence[TableLine], rows: Sequence[TableLine]) -> TablePart:
    text = ""
    places = []
    table_lines = [*head, *rows]
    for number, (line, after) in enumerate(zip_longest(table_lines, table_lines[1:])):
        text += _GAP if text else ""
        if line.end <= line.start:  # the line stands on an earlier page: a quote of it shows the row
            start, end = rows[0].start, rows[0].end
        else:
            # With the space up to the next line, so that both can be quoted as one.
            together = after is not None and line.end <= after.start and not page.text[line.end : after.start].strip()
            start, end = line.start, after.start if together else line.end
        words = line.text or page.text[line.start : line.end]
        # A row without cells is text, such as that of a long cell.
        is_text = number >= len(head) and not line.text and not line.names_rows and _CELL_GAP not in words
        places.append(Place(at=len(text), start=start, original="" if is_text else page.text[start:end]))
        text += words
    return TablePart(text, tuple(places), rows[0].start)


def ranges(start: int, end: int, count: int) -> list[tuple[int, int]]:
    """Divide the text from `start` to `end` among the parts of a table, so that neighbours touch."""
    cuts = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(cuts))
