"""Pages split into chunks that keep their page and their offsets in its text."""

from __future__ import annotations

import re
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from operator import itemgetter
from pathlib import PurePath
from typing import Literal

from rag.ingest.layout import Line, body_lines, is_heading, is_table_row, title_lines
from rag.ingest.spans import bounded_spans
from rag.ingest.table_chunks import TABLE_TOKENS, is_verbatim, lines_above, ranges, table_parts, tables_of
from rag.ingest.text_marks import row_marks, text_marks
from rag.text.normalize import estimate_tokens, normalize, sentence_spans, split_letters_and_digits, split_unspaced
from rag.text.page_names import is_place
from schemas import Chunk, Document, Page, PageTable, Place, TextMark

# Increase the number when a change here, or of the reading of files, makes other chunks of the same file: all documents
# are then indexed again in the background, and questions are answered from the old chunks meanwhile.
CHUNKING_VERSION = 5
# The size of a chunk. Larger chunks blur the ranking; smaller ones split the sentence that answers.
CHUNK_TOKENS = 200
OVERLAP_TOKENS = 25
# A heading starts a new chunk unless the chunk before it would be smaller than this.
MIN_TOKENS_BEFORE_HEADING = 100
# Headings stay with the text below them, but a page of nothing but headings is split at this size.
HEADINGS_TOKENS = 400
# The text of the first pages represents the whole document: title, abstract, contents.
OPENING_PAGES = 3
OPENING_CHARS = 6_000
_NAMESPACE = uuid.UUID("6f0c2c1e-5f0b-5c52-9a55-2f3c3c3d9e01")
_NAME_MARKS = re.compile(r"[_\W]+")

Kind = Literal["text", "heading", "table"]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a page that is not split further: a sentence, a heading, a table. Ends where the next piece starts."""

    start: int
    end: int
    tokens: int
    kind: Kind = "text"
    section: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """What becomes a chunk: the page's text from `start` to `end`, or rows of tables that stand there."""

    start: int
    end: int
    text: str
    section: str
    places: tuple[Place, ...] = ()
    marks: tuple[TextMark, ...] = ()


def chunk_pages(document: Document, pages: Iterable[Page], *, model: str) -> Iterator[Chunk]:
    """Yield the chunks of a document in order; no chunk crosses a page.

    The id of a chunk is derived from the upload, the chunk's number and the embedding `model`, so that indexing again
    overwrites the chunk. Consecutive chunks of a page overlap or touch, so that they can be joined without a gap. Rows
    of a rebuilt table are chunks of their own, whose places say where the page has them.
    """
    index = 0
    section = ""
    for page, page_lines, opening in _with_opening(body_lines(pages)):
        parts, section = _page_parts(page, page_lines, "" if page.begins else section)
        page_title = _page_title(page, page_lines)
        for number, part in enumerate(parts):
            yield Chunk(
                id=chunk_id(document.upload_id, index, model),
                upload_id=document.upload_id,
                user_id=document.user_id,
                name=document.name,
                index=index,
                page=page.number,
                page_label=page.label,
                start=part.start,
                end=part.end,
                text=part.text,
                section=part.section,
                page_title=page_title,
                places=part.places,
                marks=part.marks,
                page_text=page.text[page_lines[0].start : page_lines[-1].end] if number == 0 else "",
                opening=opening if index == 0 else "",
            )
            index += 1


def chunk_id(upload_id: str, index: int, model: str) -> str:
    """Return the id of an upload's chunk number `index` under the embedding `model`."""
    return str(uuid.uuid5(_NAMESPACE, f"{upload_id}/{index}/{model}"))


def title_from_name(name: str) -> str:
    """Return a file name as words: `AT-200_manual.pdf` becomes `AT 200 manual`."""
    return " ".join(_NAME_MARKS.sub(" ", PurePath(name).stem).split())


def indexed_text(chunk: Chunk) -> str:
    """Return the text of a chunk as it is embedded and indexed: its context line, then its normalized text.

    With the context line, a search finds a chunk of a table or a list by its document and section.
    """
    return f"{context_line(chunk)}\n{normalize(chunk.text)}"


def context_line(chunk: Chunk) -> str:
    """Return one line with the document's title, the section, the page and the page's first lines of a chunk."""
    place = chunk.page_label if is_place(chunk.page_label) else f"page {chunk.page_label}"
    parts = (title_from_name(chunk.name), chunk.section, place, *chunk.page_title.splitlines())
    return " | ".join(dict.fromkeys(filter(None, parts)))


def _page_title(page: Page, page_lines: list[Line]) -> str:
    """Return the first lines of a page that may be its title; nothing for a page whose headings are marked."""
    return "\n".join(normalize(line.text) for line in title_lines(page_lines)) if page.headings is None else ""


def lexical_text(text: str) -> str:
    """Return a text in the form that BM25 splits into terms."""
    return split_unspaced(split_letters_and_digits(normalize(text)))


def _with_opening(pages: Iterator[tuple[Page, list[Line]]]) -> Iterator[tuple[Page, list[Line], str]]:
    """Yield each page that has text, with the text of the document's first pages."""
    with_text = (pair for pair in pages if pair[1])
    first = deque(islice(with_text, OPENING_PAGES))
    opening = " ".join(page.text[page_lines[0].start : page_lines[-1].end] for page, page_lines in first)
    opening = opening[:OPENING_CHARS]
    for page, page_lines in (*first,):
        yield page, page_lines, opening
    for page, page_lines in with_text:
        yield page, page_lines, opening


def _page_parts(page: Page, page_lines: list[Line], section: str) -> tuple[list[_Part], str]:
    """Return the parts of a page that become chunks, and the section in which the page ends."""
    parts: list[_Part] = []
    in_text, apart = tables_of(page)
    for run, tables, next_start in _runs(apart, page_lines):
        before, lead = lines_above(run, tables[-1]) if tables else (run, [])
        pieces, section = _pieces(page.text, before, in_text, section) if before else ([], section)
        for packed in _packed(pieces):
            start, end = packed[0].start, packed[-1].end
            marks = text_marks(page, [(piece.start, piece.section) for piece in packed], end)
            parts.append(_Part(start, end, page.text[start:end], packed[0].section, marks=marks))
        section = next((normalize(line.text) for line in reversed(lead) if line.marked), section)
        begin = (
            parts[-1].end if parts else min([next_start, *(table.start for table in tables), *(o.start for o in lead)])
        )
        parts += _table_parts(page, tables, lead, (begin, next_start), section)
    return parts, section


def _table_parts(
    page: Page, tables: list[PageTable], lead: list[Line], span: tuple[int, int], section: str
) -> Iterator[_Part]:
    """Yield the parts of tables that stand together on a page, from where to where neighbours touch."""
    rows = [part for table in tables for part in table_parts(page, table, lead)]
    if not rows:
        return
    begin, end = span
    if is_verbatim(tables[-1]):
        spans = [*pairwise([begin, *(part.start for part in rows[1:]), end])]
    else:
        spans = ranges(begin, end, len(rows))
    for (start, stop), part in zip(spans, rows, strict=True):
        marks = row_marks(page, part.places, section) if page.lines else ()
        yield _Part(start, stop, part.text, section, part.places, marks)


def _runs(tables: list[PageTable], page_lines: list[Line]) -> Iterator[tuple[list[Line], list[PageTable], int]]:
    """Yield runs of lines, each with the tables that follow, and where the text goes on behind them.

    A table that stands for no text follows the run of lines in which it begins.
    """
    replacing = [table for table in tables if table.end > table.start]
    beside = [table for table in tables if table.end <= table.start]
    at = 0
    for table in replacing:
        begin = at
        while at < len(page_lines) and page_lines[at].start < table.start:
            at += 1
        run = page_lines[begin:at]
        while at < len(page_lines) and page_lines[at].start < table.end:
            at += 1
        here, beside = [one for one in beside if one.start < table.start], [o for o in beside if o.start >= table.start]
        yield run, [*here, table], page_lines[at].start if at < len(page_lines) else table.end
    yield page_lines[at:], beside, page_lines[-1].end


def _at(spans: list[tuple[int, int]], offset: int) -> int:
    """Return the end of the last span that begins at or before an offset; 0 if the span ends there or before."""
    number = bisect_right(spans, offset, key=itemgetter(0)) - 1
    return spans[number][1] if number >= 0 and offset < spans[number][1] else 0


def _pieces(text: str, page_lines: list[Line], tables: list[tuple[int, int]], section: str) -> tuple[list[_Piece], str]:
    """Split a page's lines into pieces that touch; return them and the section in which the page ends.

    `tables` are the spans of tables that are known as such.
    """
    width = max(line.end - line.start for line in page_lines)
    known = [_at(tables, line.start) for line in page_lines]
    pieces: list[_Piece] = []
    at = 0
    while at < len(page_lines):
        kind, block_end = _block(page_lines, at, width, known)
        if kind == "heading":
            section = normalize(" ".join(line.text for line in page_lines[at:block_end]))
        start, end = page_lines[at].start, page_lines[block_end - 1].end
        spans = sentence_spans(text, start, end) if kind == "text" else [(start, end)]
        limit = CHUNK_TOKENS if kind == "text" else TABLE_TOKENS
        for span_start, span_end in spans:
            pieces.extend(
                _Piece(a, b, estimate_tokens(text[a:b]), kind, section)
                for a, b in bounded_spans(text, span_start, span_end, limit)
            )
        at = block_end
    for number in range(len(pieces) - 1):
        pieces[number] = replace(pieces[number], end=pieces[number + 1].start)
    return pieces, section


def _block(page_lines: list[Line], at: int, width: int, known: list[int]) -> tuple[Kind, int]:
    """Return the kind of the block that starts at line `at`, and the number of the line after the block.

    `known` is the end of the table that each line is in; 0 outside of known tables.
    """
    if known[at]:
        return "table", next((n for n in range(at, len(known)) if page_lines[n].start >= known[at]), len(known))
    if _is_table_start(page_lines, at):
        return "table", _table_end(page_lines, at, known)
    if _is_heading_at(page_lines, at, width):
        return "heading", at + 1
    return "text", _text_end(page_lines, at, width, known)


def _table_end(page_lines: list[Line], at: int, known: list[int]) -> int:
    end = at + 1
    while end < len(page_lines) and not known[end] and is_table_row(page_lines[end]):
        end += 1
    return end


def _text_end(page_lines: list[Line], at: int, width: int, known: list[int]) -> int:
    end = at + 1
    while end < len(page_lines) and not known[end]:
        if _is_heading_at(page_lines, end, width) or _is_table_start(page_lines, end):
            break
        end += 1
    return end


def _is_table_start(page_lines: list[Line], at: int) -> bool:
    """Return True if at least two rows of a table start at line `at`: a single row is text."""
    return is_table_row(page_lines[at]) and at + 1 < len(page_lines) and is_table_row(page_lines[at + 1])


def _is_heading_at(page_lines: list[Line], at: int, width: int) -> bool:
    before = page_lines[at - 1] if at else None
    after = page_lines[at + 1] if at + 1 < len(page_lines) else None
    return is_heading(page_lines[at], before, after, width=width)


def _packed(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """Group pieces into chunks of about CHUNK_TOKENS.

    A heading stays with the text below it. A chunk that starts with text repeats the end of the chunk before it.
    """
    current: list[_Piece] = []
    size = 0
    for number, piece in enumerate(pieces):
        following = pieces[number + 1].tokens if piece.kind == "heading" and number + 1 < len(pieces) else 0
        full = size + piece.tokens + min(following, CHUNK_TOKENS // 2) > CHUNK_TOKENS
        new_section = piece.kind == "heading" and size >= MIN_TOKENS_BEFORE_HEADING
        awaits_text = current and current[-1].kind == "heading" and size < HEADINGS_TOKENS
        if current and not awaits_text and (full or new_section):
            yield current
            current = _overlap(current) if piece.kind == "text" else []
            size = sum(repeated.tokens for repeated in current)
        current.append(piece)
        size += piece.tokens
    if current:
        yield current


def _overlap(pieces: list[_Piece]) -> list[_Piece]:
    """Return the last sentences of a chunk, at most OVERLAP_TOKENS and never its first piece, for the next chunk."""
    repeated: list[_Piece] = []
    for piece in reversed(pieces[1:]):
        if piece.kind != "text" or sum(other.tokens for other in repeated) + piece.tokens > OVERLAP_TOKENS:
            break
        repeated.insert(0, piece)
    return repeated
