"""Blocks joined to pages, which know their headings, their tables and the lines of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rag.ingest.formats.block_tables import BlockTable, tables_among, tables_on_page
from rag.ingest.formats.blocks import PART_CHARS, Block, PageText, clean_text, parts

# Kinds of blocks that stand close together: a line feed separates two of the same kind, a blank line other blocks.
_CLOSE = ("row", "item")


class _Joined:
    """The blocks of one page, joined."""

    def __init__(self, label: str, blocks: Sequence[Block], elsewhere: Sequence[str]) -> None:
        self._label = label
        self._blocks = blocks
        self._tables: Sequence[BlockTable] = tables_among(blocks)
        self._elsewhere = elsewhere
        self._kind = ""
        self._recognized = False
        self._start()

    def _start(self) -> None:
        self.text, self.warning = "", ""
        self._headings: list[int] = []
        self._lines: list[tuple[int, int, int]] = []
        self._spans: dict[int, list[tuple[int, int]]] = {}

    def note(self, block: Block) -> None:
        """Note what is said of the page by a block, which may have no text."""
        self.warning = self.warning or block.warning
        self._recognized = self._recognized or block.recognized

    def gap(self, block: Block) -> str:
        """Return what stands between the text and the next block."""
        close = block.kind == self._kind and self._kind in _CLOSE and not block.first
        return "" if not self.text else "\n" if close else "\n\n"

    def add(self, number: int, part: str, lines: tuple[int, int] | None) -> None:
        """Add a part of the block of this number, which stands on these lines of the file."""
        block = self._blocks[number]
        at = len(self.text) + len(self.gap(block))
        if block.kind == "heading":
            self._headings.append(at)
        if lines is not None:
            self._lines.append((at, *lines))
        self.text += self.gap(block) + part
        self._spans.setdefault(number, []).append((at, len(self.text)))
        self._kind = block.kind

    def take(self) -> PageText:
        """Return the page, and start the next one."""
        page = PageText(
            self._label,
            self.text,
            tuple(self._headings),
            self.warning,
            recognized=self._recognized,
            tables=tuple(tables_on_page(self._tables, self._blocks, self._spans, self._elsewhere)),
            lines=tuple(self._lines),
        )
        self._start()
        return page


def pages_of_blocks(
    blocks: Iterable[Block], *, label: str = "", part_chars: int = PART_CHARS, elsewhere: Sequence[str] = ()
) -> Iterator[PageText]:
    """Join blocks to pages of at most `part_chars`. A block that is longer than PART_CHARS is split.

    The lines `elsewhere` stand on an earlier page, and name the rows of the tables here.
    """
    listed = list(blocks)
    joined = _Joined(label, listed, elsewhere)
    for number, block in enumerate(listed):
        joined.note(block)
        lines = block.lines
        for part in parts(clean_text(block.text).strip("\n").rstrip()):
            if joined.text and len(joined.text) + len(joined.gap(block)) + len(part) > part_chars:
                yield joined.take()
            joined.add(number, part, lines)
            if lines is not None:
                lines = lines if lines[1] else (lines[0] + part.count("\n"), 0)
    if joined.text or joined.warning:
        yield joined.take()
