"""The words of text boxes, shapes and SmartArt on the sheets of XLSX and XLSB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from errors import DocumentError
from rag.ingest.formats.blocks import Block, File
from rag.ingest.formats.diagrams import diagram_of
from rag.ingest.formats.package import Package, attribute
from rag.ingest.formats.slides import shape_blocks
from rag.ingest.media_types import OLE

# In the binary workbook of XLSB: the id of a relation, and the name of its sheet, each behind its length (BrtBundleSh).
_BINARY_SHEET: Final = re.compile(rb"(.)\0\0\0((?:[ -~]\0){1,40}?)(.)\0\0\0", re.DOTALL)


def sheet_drawings(file: File) -> Callable[[str], list[Block]]:
    """Return a function that gives the words drawn on a sheet, by its name. A damaged drawing costs itself."""
    with file.open("rb") as raw:
        is_package = raw.read(len(OLE)) != OLE
    package = None
    parts: dict[str, str] = {}
    try:
        if is_package:
            package = Package(file, "workbook")
            parts = dict(_sheets(package))
    except DocumentError:
        package = None

    def drawn(sheet: str) -> list[Block]:
        if package is None or sheet not in parts:
            return []
        try:
            return list(_drawn(package, parts[sheet]))
        except DocumentError:
            return []

    return drawn


def _sheets(package: Package) -> Iterator[tuple[str, str]]:
    """Yield the name and the part of each sheet that draws something."""
    if not any(name.startswith("xl/drawings/") for name in package.names):
        return
    main = package.main_part()
    relations = {key: part for key, (kind, part) in package.relations(main).items() if kind == "worksheet"}
    if main.endswith(".bin"):
        yield from _binary_sheets(package.data(main) or b"", relations)
        return
    root = package.xml(main)
    for sheet in root.iter("{*}sheet") if root is not None else ():
        relation = next((str(value) for key, value in sheet.items() if key.endswith("}id")), "")
        if relation in relations:
            yield attribute(sheet, "name") or "", relations[relation]


def _binary_sheets(data: bytes, relations: dict[str, str]) -> Iterator[tuple[str, str]]:
    for match in _BINARY_SHEET.finditer(data):
        relation, begin = match[2].decode("utf-16-le"), match.end()
        if len(relation) == match[1][0] and relation in relations:
            yield data[begin : begin + 2 * match[3][0]].decode("utf-16-le", "replace"), relations[relation]


def _drawn(package: Package, sheet: str) -> Iterator[Block]:
    for name in package.related(sheet, "drawing"):
        root = package.xml(name)
        if root is None:
            continue
        yield from shape_blocks(root)
        yield from _diagrams(package, name, root)


def _diagrams(package: Package, name: str, root: Any) -> Iterator[Block]:
    shown = [attribute(diagram, "dm") for diagram in root.iter("{*}relIds")]
    relations = package.relations(name) if shown else {}
    for relation in shown:
        kind, part = relations.get(relation or "", ("", ""))
        if kind == "diagramData":
            yield from diagram_of(package, part)
