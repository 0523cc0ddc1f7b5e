"""JSON and JSON Lines: a line or a section for each record, with the path of each value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.blocks import Block, File, PageText, one_line, parts
from rag.ingest.formats.encodings import decode
from rag.ingest.formats.html import without_markup
from rag.ingest.formats.tables import SEPARATOR

RECORDS_PER_PAGE = 40
# A record that is no longer is one line, as a row of a table is.
MAX_LINE_CHARS = 500
# What names a record, in the order of preference.
NAMES = ("title", "name", "subject", "id", "key")
MAX_NAME_CHARS = 100


def read_json(file: File) -> Iterator[PageText]:
    """Yield the pages of a JSON file. What is no JSON is read as text."""
    text = decode(file.read_bytes())
    try:
        value = json.loads(text)
    except ValueError:
        yield from (PageText("", part) for part in parts(text))
        return
    records, about = _records(value)
    if about:
        yield from pages_of_blocks(Block(line, "row") for line in _lines(about))
    yield from _pages(records)


def read_json_lines(file: File) -> Iterator[PageText]:
    """Yield the pages of a file with a record on each line. A line that is no JSON is a record of text."""
    yield from _pages([_loaded(line) for line in decode(file.read_bytes()).splitlines() if line.strip()])


def _loaded(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def _records(value: Any) -> tuple[list[Any], Any]:
    """Return the records of a value, and what stands beside them. An object with one list of objects is that list."""
    if isinstance(value, list):
        return value, None
    if isinstance(value, dict):
        lists = [key for key, one in value.items() if isinstance(one, list) and one and isinstance(one[0], dict)]
        if len(lists) == 1:
            return value[lists[0]], {key: one for key, one in value.items() if key != lists[0]}
    return [], value


def _pages(records: list[Any]) -> Iterator[PageText]:
    for at in range(0, len(records), RECORDS_PER_PAGE):
        some = records[at : at + RECORDS_PER_PAGE]
        blocks = [block for number, record in enumerate(some, start=at + 1) for block in _blocks(record, number)]
        yield from pages_of_blocks(blocks, label=f"Records {at + 1}–{at + len(some)}")


def _blocks(record: Any, number: int) -> Iterator[Block]:
    lines = list(_lines(record))
    if sum(map(len, lines)) <= MAX_LINE_CHARS:
        if lines:
            yield Block(SEPARATOR.join(lines), "row")
        return
    name = next((str(record[key]) for key in NAMES if record.get(key)), "") if isinstance(record, dict) else ""
    yield Block(f"Record {number}" + (f": {one_line(name)[:MAX_NAME_CHARS]}" if name else ""), "heading")
    yield from (Block(line, "row") for line in lines)


def _lines(value: Any) -> Iterator[str]:
    """Yield `path: value` for each value, such as `address.city: Riga`; a list of plain values is one value."""
    waiting = [("", value)]  # a list replaces recursion
    while waiting:
        path, one = waiting.pop()
        if isinstance(one, dict):
            waiting += [(f"{path}.{key}" if path else str(key), inner) for key, inner in reversed(one.items())]
        elif isinstance(one, list) and any(isinstance(inner, dict | list) for inner in one):
            waiting += [(f"{path}[{n}]", one[n - 1]) for n in range(len(one), 0, -1)]
        else:
            text = ", ".join(map(_shown, one)) if isinstance(one, list) else _shown(one)
            if text:
                yield f"{path}: {text}" if path else text


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return without_markup(value).strip() if isinstance(value, str) else json.dumps(value)
