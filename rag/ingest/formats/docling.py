"""A DoclingDocument, which docling-serve returns as JSON, as pages: reading order, headings, lists, tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.blocks import PART_CHARS, Block, PageText, one_line
from rag.ingest.formats.legibility import is_legible
from rag.ingest.formats.pdf import UNREADABLE
from rag.ingest.formats.tables import MAX_HEADER_CHARS, table_blocks

CONVERSION_FAILED = "conversion_failed"
# Items and cells beyond these are left out.
MAX_ITEMS, MAX_CELLS, MAX_COLUMNS = 200_000, 100_000, 1_000
_MAX_SPAN = 10
# A page has no parts, so that a picture of a page stays one page.
_MAX_PAGE_CHARS = 500_000
_HEADINGS: Final = ("title", "section_header")
_BOXES: Final = {"checkbox_selected": "[x] ", "checkbox_unselected": "[ ] "}


class DoclingPage(NamedTuple):
    """A page of a converted file. `number` is 0 for a file without pages."""

    number: int
    text: PageText


def docling_pages(document: Mapping[str, Any]) -> list[DoclingPage]:
    """Return the pages of a DoclingDocument that have text. The text of a page that is no language is left out."""
    by_page: dict[int, list[Block]] = {}
    for number, block in _Walker(document).blocks():
        by_page.setdefault(number, []).append(block)
    if len(by_page) > 1 and 0 in by_page:  # what stands on no page is before the first
        first = min(number for number in by_page if number)
        by_page[first] = by_page.pop(0) + by_page[first]
    made = []
    for number, blocks in sorted(by_page.items()):
        part_chars = _MAX_PAGE_CHARS if number else PART_CHARS
        made += [DoclingPage(number, _checked(page)) for page in pages_of_blocks(blocks, part_chars=part_chars)]
    return made


def _checked(page: PageText) -> PageText:
    return page if is_legible(page.text) else PageText("", "", None, UNREADABLE)


class _Walker:
    """Walks the tree of one document. Whatever has not the shape of a DoclingDocument is left out."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._seen: set[str] = set()
        self._page = 0

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """Yield the blocks in reading order, each with the number of its page."""
        body = self._document.get("body")
        waiting = _references(body, "children")[::-1] if isinstance(body, dict) else []
        while waiting and len(self._seen) < MAX_ITEMS:
            reference = waiting.pop()
            item = self._item(reference)
            if item is None:
                continue
            self._page = _page_of(item) or self._page
            for block in self._blocks_of(item):
                yield self._page, block
            waiting += _references(item, "children")[::-1]

    def _item(self, reference: str) -> Mapping[str, Any] | None:
        """Return the item of a reference such as `#/texts/3`; None for one that was met before, or is not there."""
        _, _, path = reference.partition("#/")
        kind, _, number = path.partition("/")
        items = self._document.get(kind)
        if reference in self._seen or not isinstance(items, list) or not number.isdecimal():
            return None
        self._seen.add(reference)
        item = items[int(number)] if int(number) < len(items) else None
        return item if isinstance(item, dict) else None

    def _blocks_of(self, item: Mapping[str, Any]) -> list[Block]:
        label, text = item.get("label"), item.get("text")
        data = item.get("data")
        if isinstance(data, dict) and isinstance(data.get("table_cells"), list):
            rows, header_rows = _table(data)
            return table_blocks(rows, header_rows=header_rows, caption=self._caption(item))
        if not isinstance(text, str) or not text.strip():
            return []
        if label in _HEADINGS:
            return [Block(one_line(text), "heading")]
        if label == "list_item":
            marker = item.get("marker")
            return [Block(f"{marker if isinstance(marker, str) and marker else '-'} {text.strip()}", "item")]
        return [Block(f"{_BOXES.get(str(label), '')}{text.strip()}")]

    def _caption(self, item: Mapping[str, Any]) -> str:
        texts = [self._item(reference) for reference in _references(item, "captions")]
        return one_line(" ".join(str(text.get("text", "")) for text in texts if text is not None))


def _table(data: Mapping[str, Any]) -> tuple[list[list[str]], int | None]:
    """Return the rows of a table, and how many at the top are headers; None if no cell says so.

    A short merged cell stands in each row that it spans, a header in each column, too. A cell that spans all columns
    is a row of its own.
    """
    cells = [cell for cell in data["table_cells"][:MAX_CELLS] if isinstance(cell, dict)]
    rows: dict[int, dict[int, str]] = {}
    header_rows, alone = set(), set()
    width = max((_number(cell, "end_col_offset_idx") for cell in cells), default=0)
    for cell in cells:
        top, left, text = _number(cell, "start_row_offset_idx"), _number(cell, "start_col_offset_idx"), _text(cell)
        right, bottom = _number(cell, "end_col_offset_idx"), min(_number(cell, "end_row_offset_idx"), top + _MAX_SPAN)
        is_header = cell.get("column_header") is True
        bottom = bottom if right - left <= _MAX_SPAN else top + 1
        if width > 1 and not left and right == width and bottom <= top + 1:
            alone.add(top)
        is_repeated = is_header or len(text) <= MAX_HEADER_CHARS
        for row in range(top, max(bottom, top + 1) if is_repeated else top + 1):
            for column in range(left, max(min(right, MAX_COLUMNS), left + 1) if is_header else left + 1):
                rows.setdefault(row, {}).setdefault(column, text)
        if is_header:
            header_rows |= set(range(top, max(bottom, top + 1)))
    made = [
        [row.get(0, "")] if number in alone else [row.get(column, "") for column in range(max(row, default=-1) + 1)]
        for number, row in sorted(rows.items())
    ]
    count = next((number for number in range(len(made)) if number not in header_rows), 0)
    return made, count or None


def _text(cell: Mapping[str, Any]) -> str:
    return str(cell.get("text", ""))


def _number(cell: Mapping[str, Any], name: str) -> int:
    value = cell.get(name)
    return min(max(value, 0), MAX_CELLS) if isinstance(value, int) else 0


def _references(item: Mapping[str, Any], name: str) -> list[str]:
    listed = item.get(name)
    found: Sequence[Any] = listed if isinstance(listed, list) else ()
    return [str(one.get("$ref", "")) for one in found if isinstance(one, dict)]


def _page_of(item: Mapping[str, Any]) -> int:
    places = item.get("prov")
    first = places[0] if isinstance(places, list) and places else None
    number = first.get("page_no") if isinstance(first, dict) else None
    return number if isinstance(number, int) and number > 0 else 0
