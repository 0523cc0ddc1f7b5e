"""The text of a document as blocks (paragraphs, headings, list items, table rows), and a page as readers return it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from rag.text.invisible import strip_controls
from rag.text.word_boxes import WordBox

# A text without pages is split into parts of about this many characters.
PART_CHARS = 20_000
_UNSTORABLE = re.compile("[\ud800-\udfff]")
# What strip_controls turns into a line feed.
_AFTER_NO_LINE = re.compile("(?<=[\v\f\x1c-\x1e\x85])")


@dataclass(frozen=True, slots=True)
class InnerFile:
    """A file inside another file, in memory. It is read like a path."""

    data: bytes

    def read_bytes(self) -> bytes:
        return self.data

    def open(self, mode: Literal["rb"]) -> BinaryIO:  # noqa: ARG002  as of Path
        return io.BytesIO(self.data)


File = Path | InnerFile
Kind = Literal["text", "heading", "row", "item", "caption"]


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a heading, a row of a table, its caption or an item of a list. `first`: a table begins with the row.

    `names`: the row is a header or a title of the whole `table`, or a title of the `rows` up to the next title.
    `lines` are the first and the last line of the file that it stands on, counted from 1; None where they are unknown.
    The last is 0 where each line feed of the text is one of the file.
    `warning` says why text is missing here, as that of a page does. `recognized`: OCR has read the block.
    """

    text: str
    kind: Kind = "text"
    first: bool = False
    names: Literal["", "table", "rows"] = ""
    lines: tuple[int, int] | None = None
    warning: str = ""
    recognized: bool = False


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of a table. The page's text has its words from `start` to `end`; nowhere if these are equal.

    `text` is "" where the page's text has the line as it is. `names_rows`: a title of the rows below, up to the next.
    """

    text: str
    start: int
    end: int
    names_rows: bool = False


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
    of a page stand that was read by OCR, on a picture of `size` in points. `recognized`: to read the page again takes
    OCR. `begins`: a file inside the file begins here, so no section goes on. `tables` do not overlap. `lines` are
    offsets of the text in ascending order, each with the first and the last line of the file from there on, as of a
    block; empty for a file without lines.
    """

    label: str
    text: str
    headings: tuple[int, ...] | None = None
    warning: str = ""
    words: tuple[WordBox, ...] = ()
    size: tuple[float, float] | None = None
    recognized: bool = False
    begins: bool = False
    tables: tuple[TextTable, ...] = ()
    lines: tuple[tuple[int, int, int], ...] = ()


def clean_text(text: str) -> str:
    """Drop control characters, which must not reach an answer, and lone surrogates, which JSON cannot hold."""
    return _UNSTORABLE.sub("", strip_controls(text))


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


def parts_with_lines(text: str) -> Iterator[PageText]:
    """Split a text into pages that know their lines. A form feed begins no line of the file."""
    line = 1
    for part in parts(text.replace("\r\n", "\n").replace("\r", "\n")):
        cleaned, places = "", []
        for between in _AFTER_NO_LINE.split(part):
            places.append((len(cleaned), line, 0))
            cleaned += clean_text(between)
            line += between.count("\n")
        yield PageText("", cleaned, lines=tuple(places))


def opened(file: File) -> Path | BinaryIO:
    """Return what libraries open that take a path or an open file."""
    return file if isinstance(file, Path) else file.open("rb")


def one_line(text: str) -> str:
    """Return a text with each run of white space as one space."""
    return " ".join(text.split())
