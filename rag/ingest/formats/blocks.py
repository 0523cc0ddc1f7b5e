"""The text of a document as blocks (paragraphs, headings, list items, table rows), and the pages made of blocks."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from rag.text.invisible import strip_controls
from rag.text.word_boxes import WordBox

# A text without pages is split into parts of about this many characters.
PART_CHARS = 20_000
_UNSTORABLE = re.compile("[\ud800-\udfff]")
# Kinds of blocks that stand close together: a line feed separates two of the same kind, a blank line other blocks.
_CLOSE = ("row", "item")


@dataclass(frozen=True, slots=True)
class InnerFile:
    """A file inside another file, in memory. It is read like a path."""

    data: bytes

    def read_bytes(self) -> bytes:
        return self.data

    def open(self, mode: Literal["rb"]) -> BinaryIO:  # noqa: ARG002  as of Path
        return io.BytesIO(self.data)


File = Path | InnerFile
Kind = Literal["text", "heading", "row", "item"]


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a heading, a row of a table or an item of a list. `first`: a table or list begins with the block."""

    text: str
    kind: Kind = "text"
    first: bool = False


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of a table. The page's text has its words from `start` to `end`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table, of which `rows` stand for the page's text from `start` to `end`; each part of it repeats `context`."""

    start: int
    end: int
    context: tuple[TextLine, ...]
    rows: tuple[TextLine, ...]


@dataclass(frozen=True, slots=True)
class PageText:
    """A page as a reader returns it.

    `label` is printed on the page, or says where a page of a file without pages is ("Sheet Q3, rows 2–40"); "" without
    a label. `headings` are the offsets of the headings in the text; None where the layout has to tell them.
    `warning` is a reason, for programs, why text of this page is missing; "" without one. `words` says where the words
    of a page stand that was read by OCR. `begins`: a file inside the file begins here, so no section goes on. `tables`
    do not overlap.
    """

    label: str
    text: str
    headings: tuple[int, ...] | None = None
    warning: str = ""
    words: tuple[WordBox, ...] = ()
    begins: bool = False
    tables: tuple[TextTable, ...] = ()


def clean_text(text: str) -> str:
    """Drop control characters, which must not reach an answer, and lone surrogates, which JSON cannot hold."""
    return _UNSTORABLE.sub("", strip_controls(text))


def pages_of_blocks(blocks: Iterable[Block], *, label: str = "") -> Iterator[PageText]:
    """Join blocks to pages of at most PART_CHARS. A block that is longer is split."""
    text, headings, kind = "", list[int](), ""
    for block in blocks:
        for part in parts(clean_text(block.text).strip("\n").rstrip()):
            close = block.kind == kind and kind in _CLOSE and not block.first
            gap = "" if not text else "\n" if close else "\n\n"
            if len(text) + len(gap) + len(part) > PART_CHARS:
                yield PageText(label, text, tuple(headings))
                text, headings, gap = "", [], ""
            if block.kind == "heading":
                headings.append(len(text) + len(gap))
            text += gap + part
            kind = block.kind
    if text:
        yield PageText(label, text, tuple(headings))


def parts(text: str) -> Iterator[str]:
    """Split a text into parts of at most PART_CHARS, at the end of a paragraph, line or word where there is one."""
    start = 0
    text = text.replace("\r\n", "\n")
    while start < len(text):
        end = start + PART_CHARS
        if end < len(text):
            for separator in ("\f", "\n\n", "\n", " "):
                at = text.rfind(separator, start + PART_CHARS // 2, end)
                if at >= 0:
                    end = at + len(separator)
                    break
        yield text[start:end]
        start = end


def opened(file: File) -> Path | BinaryIO:
    """Return what libraries open that take a path or an open file."""
    return file if isinstance(file, Path) else file.open("rb")


def one_line(text: str) -> str:
    """Return a text with each run of white space as one space."""
    return " ".join(text.split())
