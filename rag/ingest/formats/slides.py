"""PPTX: a page for each slide, with its title, its text, its tables and the speaker's notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.blocks import Block, File, PageText, one_line
from rag.ingest.formats.charts import charts_of
from rag.ingest.formats.diagrams import diagram_of
from rag.ingest.formats.package import Package, attribute, child, local
from rag.ingest.formats.pictures import Pictures
from rag.ingest.formats.tables import MAX_HEADER_CHARS, table_blocks

_TITLES: Final = ("title", "ctrTitle")
_NOT_TEXT: Final = ("sldNum", "dt", "sldImg", "hdr", "ftr")


def read_slides(path: File, pictures: Pictures) -> Iterator[PageText]:
    """Yield the slides that are shown, with the text of their `pictures`. Raises DocumentError."""
    package = Package(path, "PPTX file")
    name = package.main_part()
    root = package.xml(name)
    slides = package.relations(name)
    ids = (element for element in root.iter("{*}sldId")) if root is not None else ()
    number = 0
    for element in ids:
        relation = next((str(value) for key, value in element.items() if key.endswith("}id")), "")
        kind, part = slides.get(relation, ("", ""))
        slide = package.xml(part) if kind == "slide" else None
        number += 1  # a hidden slide has a number, too
        if slide is None or attribute(slide, "show") in {"0", "false"}:
            continue
        blocks = [*shape_blocks(slide), *_shown(package, part, slide, pictures), *_notes(package, part)]
        pages = list(pages_of_blocks(blocks, label=f"Slide {number}"))
        yield from pages or [PageText(f"Slide {number}", "", ())]


def _shown(package: Package, part: str, slide: Any, pictures: Pictures) -> Iterator[Block]:
    """Yield the words of diagrams, the figures of charts and the text of pictures, without the background."""
    shown = [attribute(diagram, "dm") for diagram in slide.iter("{*}relIds")]
    shown += [attribute(chart, "id") for chart in slide.iter("{*}chart")]
    shown += [attribute(blip, "embed") for picture in slide.iter("{*}pic") for blip in picture.iter("{*}blip")]
    relations = package.relations(part) if shown else {}
    for relation in shown:
        kind, name = relations.get(relation or "", ("", ""))
        if kind == "chart":
            yield from charts_of(package, name)
        elif kind == "diagramData":
            yield from diagram_of(package, name)
        elif kind == "image":
            yield from pictures.blocks(package, name)


def _notes(package: Package, slide: str) -> Iterator[Block]:
    for name in package.related(slide, "notesSlide"):
        root = package.xml(name)
        text = " ".join(block.text for block in shape_blocks(root)) if root is not None else ""
        if text:
            yield Block(f"Notes: {text}")


def shape_blocks(parent: Any) -> Iterator[Block]:
    """Yield the words of the shapes and tables of a slide, or of the drawing of a sheet."""
    for element in parent:
        name = local(element)
        if name == "sp":
            yield from _shape(element)
        elif name == "tbl":
            yield from _table(element)
        elif name == "AlternateContent":
            yield from shape_blocks(element[0]) if len(element) else ()
        elif name == "p":
            yield from _paragraph(element, "text")
        elif name:
            yield from shape_blocks(element)


def _shape(shape: Any) -> Iterator[Block]:
    place = child(shape, "nvSpPr", "nvPr", "ph")
    kind = "" if place is None else attribute(place, "type") or ""
    properties = child(shape, "nvSpPr", "cNvPr")
    if kind in _NOT_TEXT or (properties is not None and attribute(properties, "hidden") in {"1", "true"}):
        return
    body = child(shape, "txBody")
    for paragraph in body if body is not None else ():
        if local(paragraph) == "p":
            yield from _paragraph(paragraph, "heading" if kind in _TITLES else "text")


def _paragraph(paragraph: Any, kind: Any) -> Iterator[Block]:
    words = []
    for element in paragraph.iter():
        if local(element) == "t":
            words.append(element.text or "")
        elif local(element) == "br":
            words.append("\n")
    text = "".join(words).strip()
    if text:
        yield Block(one_line(text) if kind == "heading" else text, kind)


def _table(table: Any) -> list[Block]:
    properties = child(table, "tblPr")
    header = properties is not None and attribute(properties, "firstRow") in {"1", "true"}
    above: dict[int, str] = {}
    rows = [_row([cell for cell in row if local(cell) == "tc"], above) for row in table if local(row) == "tr"]
    return table_blocks(rows, header_rows=1 if header else None)


def _row(cells: list[Any], above: dict[int, str]) -> list[str]:
    """Return the texts of a row. A merged cell stands in each row that it spans; `above` has the texts by column."""
    line: list[str] = []
    for number, cell in enumerate(cells):
        if attribute(cell, "vMerge"):
            line.append(above.get(number, ""))
        else:
            text = "" if attribute(cell, "hMerge") else one_line(" ".join(block.text for block in shape_blocks(cell)))
            line.append(text)
            above[number] = text if len(text) <= MAX_HEADER_CHARS else ""
    spans = cells and _span(cells[0]) == len(cells)
    return line[:1] if spans else line


def _span(cell: Any) -> int:
    value = attribute(cell, "gridSpan") or ""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= len("999") else 1
