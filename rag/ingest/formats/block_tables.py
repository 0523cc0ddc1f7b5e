"""The tables among the blocks of a document, each with the lines that name its rows: caption, unit, header."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from rag.ingest.formats.blocks import Block, TextLine, TextTable, clean_text, one_line

# A paragraph above a table that is no longer may be its caption or unit. Of so many the nearest are looked at.
MAX_CONTEXT_CHARS: Final = 200
MAX_CONTEXT_BLOCKS: Final = 3
_SENTENCE_END: Final = (".", "!", "?")
_CAPTION = re.compile(r"(?:table|tab\.|tabelle|tableau|tabla|tabella|tabela)\s*[\dIVX]+\b", re.IGNORECASE)

_CELL_GAP: Final = " | "
# From where to where blocks stand in the text of a page, by their number. A long block has several spans.
Spans = Mapping[int, Sequence[tuple[int, int]]]


class BlockTable(NamedTuple):
    """A table by the numbers of its blocks: those that each part repeats, the rows, and the titles among the rows."""

    context: tuple[int, ...]
    rows: range
    titles: tuple[int, ...]


def tables_among(blocks: Sequence[Block]) -> list[BlockTable]:
    """Return the tables among blocks, in order. A table begins with a row that is the first."""
    found: list[BlockTable] = []
    at = 0
    while at < len(blocks):
        if not (blocks[at].kind == "row" and blocks[at].first):
            at += 1
            continue
        end = at + 1
        while end < len(blocks) and blocks[end].kind == "row" and not blocks[end].first:
            end += 1
        above = _above(blocks, at)
        if not any(_is_caption(blocks[number]) for number in above):
            above += _below(blocks, end)
        begin = next((number for number in range(at, end) if blocks[number].names != "table"), at)
        titles = tuple(number for number in range(begin, end) if blocks[number].names == "rows")
        found.append(BlockTable((*above, *range(at, begin)), range(begin, end), titles))
        at = end
    return found


def _is_caption(block: Block) -> bool:
    return block.kind == "caption" or (block.kind == "text" and _CAPTION.match(block.text) is not None)


def _above(blocks: Sequence[Block], at: int) -> list[int]:
    """Return the short paragraphs right above a table; a sentence only where nothing is between."""
    found: list[int] = []
    for number in range(at - 1, max(-1, at - 1 - MAX_CONTEXT_BLOCKS), -1):
        block = blocks[number]
        if block.kind not in {"text", "caption"} or not block.text or len(block.text) > MAX_CONTEXT_CHARS:
            break
        if found and block.kind == "text" and block.text.rstrip().endswith(_SENTENCE_END):
            break
        found.insert(0, number)
    return found


def _below(blocks: Sequence[Block], end: int) -> list[int]:
    """Return the caption below a table that is not above the next one."""
    if end >= len(blocks) or not _is_caption(blocks[end]) or len(blocks[end].text) > MAX_CONTEXT_CHARS:
        return []
    leads_on = end + 1 < len(blocks) and blocks[end + 1].kind == "row" and blocks[end + 1].first
    return [] if leads_on else [end]


def tables_on_page(
    tables: Sequence[BlockTable], blocks: Sequence[Block], spans: Spans, elsewhere: Sequence[str]
) -> Iterator[TextTable]:
    """Yield the tables of a page with these `spans`. All repeat the lines `elsewhere`, above their own."""
    if not spans:
        return
    first, last = min(spans), max(spans)
    for table in tables[bisect_right(tables, first, key=lambda table: table.rows.stop) :]:
        if table.rows.start > last:
            return
        here = range(max(first, table.rows.start), min(last + 1, table.rows.stop))
        rows = [
            TextLine("", *span, names_rows=blocks[number].names == "rows")
            for number in here
            for span in spans.get(number, ())
        ]
        headers = [span for number in table.context if blocks[number].kind == "row" for span in spans.get(number, ())]
        if rows:
            context = [TextLine(line, 0, 0) for line in elsewhere]
            context += [_line(blocks[n], spans.get(n, ())) for n in table.context if blocks[n].text]
            if before := bisect_left(table.titles, here.start):  # the title is on an earlier page
                context.append(replace(_line(blocks[table.titles[before - 1]], ()), names_rows=True))
            start = min([rows[0].start, *(start for start, _ in headers)])
            yield TextTable(start, rows[-1].end, tuple(context), tuple(rows))


def _line(block: Block, spans: Sequence[tuple[int, int]]) -> TextLine:
    """Return a line that is repeated. A row that names the columns says so, since it looks like any other row."""
    text = clean_text(one_line(block.text))
    if _CELL_GAP in text and ":" not in text:
        text = f"Columns: {text.replace(_CELL_GAP, '; ')}"
    elif spans:
        text = ""
    return TextLine(text, spans[0][0], spans[-1][1]) if spans else TextLine(text, 0, 0)
