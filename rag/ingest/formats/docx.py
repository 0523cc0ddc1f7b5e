"""The text of a DOCX file as a reader of Word sees it: tracked changes accepted, each part of the page once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from rag.ingest.formats.blocks import Block, File, one_line
from rag.ingest.formats.charts import charts_of
from rag.ingest.formats.diagrams import diagram_of
from rag.ingest.formats.docx_chunks import MAX_CHUNKS, chunk_blocks
from rag.ingest.formats.docx_headers import header_rows_of, is_continued, row_cells
from rag.ingest.formats.docx_styles import Numbering, Styles
from rag.ingest.formats.package import Package, attribute, child, is_on, local, value_of
from rag.ingest.formats.pictures import Pictures
from rag.ingest.formats.tables import MAX_CELL_CHARS, MAX_HEADER_CHARS, long_table_blocks, table_blocks

# Deleted text, instructions of fields, and properties.
_DROPPED: Final = frozenset(
    (
        *(
            "del",
            "moveFrom",
            "delText",
            "instrText",
            "delInstrText",
            "pPr",
            "rPr",
            "sdtPr",
            "sdtEndPr",
            "tblPr",
            "tblGrid",
        ),
        *(
            "trPr",
            "tcPr",
            "sectPr",
            "rt",
            "commentReference",
            "annotationRef",
            "object",
            "control",
            "fldData",
            "ctrlPr",
        ),
    )
)
_BREAKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_CHARS: Final = ("t", "sym", *_BREAKS)
_BOX: Final = "txbxContent"
# Elements that show a picture, a chart or a diagram, and their attribute that names the relation to it.
_IMAGES: Final = {"blip": "embed", "imagedata": "id", "chart": "id", "relIds": "dm"}


def read_docx(path: File, pictures: Pictures, *, chunks_left: int = MAX_CHUNKS) -> list[Block]:
    """Return the blocks of a DOCX file: headers, body with its `pictures`, footers. Raises DocumentError.

    `chunks_left` is how many documents inside may be read.
    """
    package = Package(path, "DOCX file")
    name = package.main_part()
    root = package.xml(name)
    body = None if root is None else child(root, "body")
    if body is None:
        raise package.broken("it holds no document")
    walker = _Walker(package, name, pictures, chunks_left)
    blocks = list(walker.body(body))
    return [*walker.margins(root, "headerReference"), *blocks, *walker.margins(root, "footerReference")]


class _Walker:
    """Turns the elements of one DOCX file into blocks."""

    def __init__(self, package: Package, name: str, pictures: Pictures, chunks_left: int) -> None:
        self._package = package
        self._pictures = pictures
        self._is_body = False
        self._relations = package.relations(name)
        self._styles = Styles(self._part("styles"))
        self._numbering = Numbering(self._part("numbering"))
        self._notes = {
            "footnoteReference": self._note_parts("footnotes"),
            "endnoteReference": self._note_parts("endnotes"),
        }
        self._boxes: list[Any] = []
        self._references: list[tuple[str, str]] = []
        self._images: list[str] = []
        self._chunks_left = chunks_left

    def body(self, body: Any) -> Iterator[Block]:
        """Yield the blocks of the body. Only here pictures are read: those of headers are logos."""
        self._is_body = True
        yield from self.blocks(body)
        self._is_body = False

    def _part(self, kind: str) -> Any | None:
        name = next((target for type_, target in self._relations.values() if type_ == kind), None)
        return None if name is None else self._package.xml(name)

    def _note_parts(self, kind: str) -> dict[str, Any]:
        root = self._part(kind)
        notes = root if root is not None else ()
        return {attribute(note, "id") or "": note for note in notes if attribute(note, "type") in {None, "normal"}}

    def margins(self, root: Any, kind: str) -> Iterator[Block]:
        """Yield each different block of the headers, or of the footers, once."""
        seen = set()
        for reference in root.iter("{*}" + kind):
            _, name = self._relations.get(attribute(reference, "id") or "", ("", ""))
            part = self._package.xml(name) if name else None
            for block in self.blocks(part) if part is not None else ():
                if block.text not in seen:
                    seen.add(block.text)
                    yield Block(block.text)

    def blocks(self, parent: Any) -> Iterator[Block]:
        """Yield the blocks of a body, a cell, a note or a text box."""
        for element in parent:
            name = local(element)
            if name == "p":
                yield from self._paragraph(element)
            elif name == "tbl":
                yield from self._table(element)
            elif name == "sdt" and is_on(child(element, "sdtPr"), "showingPlcHdr"):
                continue
            elif name == "altChunk":
                yield from self._chunk(attribute(element, "id") or "")
            elif name == "AlternateContent":
                chosen = _chosen(element)
                yield from self.blocks(chosen) if chosen is not None else ()
            elif name and name not in _DROPPED:
                yield from self.blocks(element)

    def _paragraph(self, paragraph: Any) -> Iterator[Block]:
        outer = self._boxes, self._references, self._images
        self._boxes, self._references, self._images = [], [], []
        text = "".join(self._text(paragraph)).strip()
        boxes, references, images = self._boxes, self._references, self._images
        self._boxes, self._references, self._images = outer
        properties = child(paragraph, "pPr")
        style = value_of(properties, "pStyle")
        if text:
            level = value_of(properties, "outlineLvl")
            heading = self._styles.is_heading(style) if level is None else level != "9"
            marker = self._numbering.marker(*self._styles.numbering(style, properties))
            if heading:
                yield Block(one_line(f"{marker.lstrip('- ')} {text}"), "heading")
            else:
                yield Block(f"{marker} {text}", "item") if marker else Block(text)
        for image in images:
            yield from self._picture(image)
        for box in boxes:
            yield from self.blocks(box)
        for kind, number in references:
            yield from self._note(kind, number)

    def _chunk(self, relation: str) -> list[Block]:
        kind, name = self._relations.get(relation, ("", ""))
        data = self._package.data(name) if kind == "aFChunk" and self._chunks_left > 0 else None
        self._chunks_left -= 1
        return chunk_blocks(name, data, self._inner) if data else []

    def _inner(self, file: File) -> list[Block]:
        """Return the blocks of a DOCX inside, which may hold others; all together MAX_CHUNKS."""
        return read_docx(file, self._pictures, chunks_left=self._chunks_left // 2)

    def _picture(self, relation: str) -> list[Block]:
        kind, name = self._relations.get(relation, ("", ""))
        if kind == "chart":
            return charts_of(self._package, name)
        if kind == "diagramData":
            return diagram_of(self._package, name)
        return self._pictures.blocks(self._package, name) if kind == "image" and self._is_body else []

    def _note(self, kind: str, number: str) -> Iterator[Block]:
        note = self._notes[kind].get(number)
        text = " ".join(block.text for block in self.blocks(note)) if note is not None else ""
        if text:
            yield Block(f"{'Footnote' if kind.startswith('foot') else 'Endnote'} {number}: {text}")

    def _text(self, parent: Any) -> Iterator[str]:
        """Yield the visible text of a paragraph; note text boxes and references to notes for later."""
        for element in parent:
            name = local(element)
            if name in _CHARS:
                yield _chars(name, element)
            elif name in self._notes:
                self._references.append((name, attribute(element, "id") or ""))
            elif name in _IMAGES:
                self._images.append(attribute(element, _IMAGES[name]) or "")
            elif name == _BOX:
                self._boxes.append(element)
            elif name == "AlternateContent":
                chosen = _chosen(element)
                yield from self._text(chosen) if chosen is not None else ()
            elif name in _DROPPED or self._is_hidden(name, element):
                continue
            elif name:
                yield from self._text(element)

    def _is_hidden(self, name: str, element: Any) -> bool:
        if name == "r":
            properties = child(element, "rPr")
            return is_on(properties, "vanish") or self._styles.is_hidden(value_of(properties, "rStyle"))
        return name == "sdt" and is_on(child(element, "sdtPr"), "showingPlcHdr")

    def _table(self, table: Any) -> Iterator[Block]:
        rows, cells = list[list[str]](), list[dict[int, list[Block]]]()
        above = dict[int, str]()
        listed = list(_rows(table))
        header_rows = header_rows_of(table, listed)
        for number, row in enumerate(listed):
            line, by_column = self._row(row, above, is_header=number < (header_rows or 0))
            rows.append(line)
            cells.append(by_column)
        every = [blocks for of_row in cells for blocks in of_row.values()]
        texts = [one_line(" ".join(block.text for block in blocks)) for blocks in every]
        lays_out = any(block.kind in {"heading", "row"} and len(blocks) > 1 for blocks in every for block in blocks)
        has_long = any(len(text) > MAX_CELL_CHARS for text in texts)
        if not lays_out and has_long and header_rows and max(map(len, rows)) > 1:
            yield from long_table_blocks(rows, cells, header_rows=header_rows)
        elif lays_out or has_long or max(map(len, rows), default=0) <= 1:
            for blocks in every:
                yield from blocks
        else:
            yield from table_blocks(rows, header_rows=header_rows)
            yield from (
                replace(block, text="") for blocks in every for block in blocks if block.warning or block.recognized
            )

    def _row(self, row: Any, above: dict[int, str], *, is_header: bool) -> tuple[list[str], dict[int, list[Block]]]:
        """Return the texts of a row, one for each column, and the blocks of its cells by their column.

        A short merged cell stands in each row that it spans: `above` has the texts that may go on, by column. A cell
        that is a row of its own spans all columns, and stands alone.
        """
        before = _count(value_of(row, "trPr", "gridBefore"), least=0)
        line = [""] * before
        listed, cells = list(row_cells(row)), dict[int, list[Block]]()
        for cell in listed:
            properties = child(cell, "tcPr")
            continues = is_continued(cell)
            merged = None if properties is None else child(properties, "vMerge")
            blocks = [] if continues else list(self.blocks(cell))
            separator = "; " if any(block.kind == "row" for block in blocks) else " "
            text = one_line(separator.join(block.text for block in blocks))
            text = above.get(len(line), "") if continues and len(listed) > 1 else text
            above[len(line)] = text if merged is not None and len(text) <= MAX_HEADER_CHARS else ""
            cells[len(line)] = blocks
            line += [text, *[text if is_header else ""] * (_count(value_of(properties, "gridSpan")) - 1)]
        return line[:1] if len(listed) == 1 and not before else line, cells


def _rows(table: Any) -> Iterator[Any]:
    """Yield the rows of a table, within content controls too, without deleted rows."""
    for element in table:
        if local(element) == "tr":
            properties = child(element, "trPr")
            if properties is None or child(properties, "del") is None:
                yield element
        elif local(element) in {"sdt", "sdtContent", "ins", "customXml"}:
            yield from _rows(element)


def _chosen(alternatives: Any) -> Any | None:
    """Return the first of several ways to draw the same thing."""
    choices: Iterable[Any] = (one for one in alternatives if local(one) in {"Choice", "Fallback"})
    return next(iter(choices), None)


def _chars(name: str, element: Any) -> str:
    """Return the characters of an element that has no others inside."""
    if name == "t":
        return element.text or ""
    return _BREAKS[name] if name in _BREAKS else _symbol(element)


def _symbol(element: Any) -> str:
    """Return a character of a symbol font; "" for one in the private area, whose meaning only the font knows."""
    code = attribute(element, "char") or ""
    try:
        char = chr(int(code, 16))
    except (ValueError, OverflowError):
        return ""
    return "" if "\ue000" <= char <= "\uf8ff" else char


def _count(value: str | None, *, least: int = 1) -> int:
    return max(least, min(63, int(value))) if value and value.isascii() and value.isdigit() else least
