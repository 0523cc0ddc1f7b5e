"""Pages cut into chunks that keep their page and their place in its text."""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath

from rag.ingest.layout import Line, bodies, is_heading, is_table_row
from rag.text.normalize import estimate_tokens, normalize, sentence_spans, split_letters_and_digits, split_unspaced
from schemas import Chunk, Document, Page

# Larger chunks blur the ranking, smaller ones split the sentence that answers.
CHUNK_TOKENS = 200
OVERLAP_TOKENS = 25
# A table is kept whole up to this size; a model with an input of 512 tokens still reads it to its end.
TABLE_TOKENS = 400
# A heading begins a new chunk unless the one before it would be smaller than this.
SMALL_TOKENS = 100
# Headings stay with what follows them; a page of nothing but headings is cut all the same.
HEADINGS_TOKENS = 400
# Pages whose text stands for the whole document: title, abstract, contents.
OPENING_PAGES = 3
OPENING_CHARS = 6_000
_NAMESPACE = uuid.UUID("6f0c2c1e-5f0b-5c52-9a55-2f3c3c3d9e01")
_WORD_GAP = re.compile(r"\s+")
_NAME_MARKS = re.compile(r"[_\W]+")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a page that stays whole: a sentence, a heading, a table. It ends where the next one starts."""

    start: int
    end: int
    tokens: int
    kind: str = "text"
    section: str = ""


def chunk_pages(document: Document, pages: Iterable[Page], *, model: str) -> Iterator[Chunk]:
    """Yield the chunks of a document in order; none crosses a page.

    A chunk's id follows from the upload, the chunk's number and the embedding `model`, so that indexing again
    overwrites. Chunks of a page overlap or touch, so that neighbours can be joined to what the page says.
    """
    index = 0
    section = ""
    for page, found, opening in _with_opening(bodies(pages)):
        pieces, section = _pieces(page.text, found, section)
        for number, part in enumerate(_packed(pieces)):
            start, end = part[0].start, part[-1].end
            yield Chunk(
                id=str(uuid.uuid5(_NAMESPACE, f"{document.upload_id}/{index}/{model}")),
                upload_id=document.upload_id,
                user_id=document.user_id,
                name=document.name,
                index=index,
                page=page.number,
                page_label=page.label,
                start=start,
                end=end,
                text=page.text[start:end],
                section=part[-1].section if part[0].kind == "text" else part[0].section,
                page_text=page.text[found[0].start : found[-1].end] if number == 0 else "",
                opening=opening if index == 0 else "",
            )
            index += 1


def title_from_name(name: str) -> str:
    """Return a file's name as words: `AT-200_manual.pdf` becomes `AT 200 manual`."""
    return " ".join(_NAME_MARKS.sub(" ", PurePath(name).stem).split())


def indexed_text(chunk: Chunk) -> str:
    """Return the text by which a chunk is found: its document, section and page, and what it says, normalised.

    The line in front makes a chunk of a table or a list findable by what it belongs to.
    """
    return f"{context_line(chunk)}\n{normalize(chunk.text)}"


def context_line(chunk: Chunk) -> str:
    """Say in one line where a chunk stands."""
    return " | ".join(part for part in (title_from_name(chunk.name), chunk.section, f"page {chunk.page_label}") if part)


def lexical_text(text: str) -> str:
    """Return the text whose terms are counted."""
    return split_unspaced(split_letters_and_digits(normalize(text)))


def _with_opening(
    pages: Iterator[tuple[Page, list[Line]]],
) -> Iterator[tuple[Page, list[Line], str]]:
    """Add to each page with text what the document's first pages say."""
    texts = (pair for pair in pages if pair[1])
    first = deque(islice(texts, OPENING_PAGES))
    opening = " ".join(page.text[found[0].start : found[-1].end] for page, found in first)[:OPENING_CHARS]
    for page, found in (*first,):
        yield page, found, opening
    for page, found in texts:
        yield page, found, opening


def _pieces(text: str, found: list[Line], section: str) -> tuple[list[_Piece], str]:
    """Cut a page's lines into pieces that touch; return them and the section the page ends in."""
    width = max(line.end - line.start for line in found)
    pieces: list[_Piece] = []
    at = 0
    while at < len(found):
        kind, upto = _block(found, at, width)
        if kind == "heading":
            section = normalize(" ".join(line.text for line in found[at:upto]))
        start, end = found[at].start, found[upto - 1].end
        spans = sentence_spans(text, start, end) if kind == "text" else [(start, end)]
        limit = CHUNK_TOKENS if kind == "text" else TABLE_TOKENS
        for begin, stop in spans:
            pieces.extend(
                _Piece(a, b, estimate_tokens(text[a:b]), kind, section) for a, b in _bounded(text, begin, stop, limit)
            )
        at = upto
    for number in range(len(pieces) - 1):
        pieces[number] = replace(pieces[number], end=pieces[number + 1].start)
    return pieces, section


def _block(found: list[Line], at: int, width: int) -> tuple[str, int]:
    """Return what the lines from `at` are, and where that ends."""
    if is_table_row(found[at]) and at + 1 < len(found) and is_table_row(found[at + 1]):
        return "table", _end(found, at, width, "table")
    if _heading_at(found, at, width):
        return "heading", at + 1
    return "text", _end(found, at, width, "text")


def _end(found: list[Line], at: int, width: int, kind: str) -> int:
    upto = at + 1
    while upto < len(found):
        row = is_table_row(found[upto])
        if kind == "table" and not row:
            break
        if kind == "text" and (
            _heading_at(found, upto, width) or (row and upto + 1 < len(found) and is_table_row(found[upto + 1]))
        ):
            break
        upto += 1
    return upto


def _heading_at(found: list[Line], at: int, width: int) -> bool:
    before = found[at - 1] if at else None
    after = found[at + 1] if at + 1 < len(found) else None
    return is_heading(found[at], before, after, width=width)


def _bounded(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yield `start` to `end` in pieces of at most `limit` tokens, cut between words where there are gaps."""
    while True:
        low, high = _around(text, start, end, limit)
        if low == end:
            break
        while low < high:  # the longest head within the limit
            middle = (low + high + 1) // 2
            low, high = (middle, high) if estimate_tokens(text[start:middle]) <= limit else (low, middle - 1)
        gaps = [gap.end() for gap in _WORD_GAP.finditer(text, start + (low - start) // 2, low)]
        lines_end = [at for at in gaps if "\n" in text[at - 2 : at]]
        cut = (lines_end or gaps or [low])[-1]
        yield start, cut
        start = cut
    if text[start:end].strip():
        yield start, end


def _around(text: str, start: int, end: int, limit: int) -> tuple[int, int]:
    """Return two places between which a head of the text reaches the limit; both are `end` where it never does.

    Looks from the start, so that a page of a million characters is not counted anew for each cut.
    """
    low, size = start + 1, limit
    while low < end:
        high = min(end, start + size)
        if estimate_tokens(text[start:high]) > limit:
            return low, high
        low, size = high, size * 2
    return end, end


def _packed(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """Group pieces into chunks: as many as fit, headings with what follows them, and a little of the last chunk."""
    current: list[_Piece] = []
    size = 0
    for number, piece in enumerate(pieces):
        following = pieces[number + 1].tokens if piece.kind == "heading" and number + 1 < len(pieces) else 0
        full = size + piece.tokens + min(following, CHUNK_TOKENS // 2) > CHUNK_TOKENS
        held = current and current[-1].kind == "heading" and size < HEADINGS_TOKENS
        if current and not held and (full or (piece.kind == "heading" and size >= SMALL_TOKENS)):
            yield current
            current = _overlap(current) if piece.kind == "text" else []
            size = sum(one.tokens for one in current)
        current.append(piece)
        size += piece.tokens
    if current:
        yield current


def _overlap(pieces: list[_Piece]) -> list[_Piece]:
    """Return the last sentences of a chunk that the next one repeats."""
    kept: list[_Piece] = []
    for piece in reversed(pieces[1:]):
        if piece.kind != "text" or sum(one.tokens for one in kept) + piece.tokens > OVERLAP_TOKENS:
            break
        kept.insert(0, piece)
    return kept
