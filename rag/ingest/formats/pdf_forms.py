"""What a PDF page shows beside its text: the values of form fields, notes, stamps and signatures."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium

from rag.ingest.formats.blocks import one_line

# Notes whose words stand in their `Contents`. The text of a link, a popup or a highlight is the page's own.
_NOTES: Final = {
    pdfium.FPDF_ANNOT_TEXT: "Note",
    pdfium.FPDF_ANNOT_FREETEXT: "Note",
    pdfium.FPDF_ANNOT_CARET: "Note",
    pdfium.FPDF_ANNOT_HIGHLIGHT: "Note",
    pdfium.FPDF_ANNOT_UNDERLINE: "Note",
    pdfium.FPDF_ANNOT_STRIKEOUT: "Note",
    pdfium.FPDF_ANNOT_SQUIGGLY: "Note",
    pdfium.FPDF_ANNOT_SQUARE: "Note",
    pdfium.FPDF_ANNOT_CIRCLE: "Note",
    pdfium.FPDF_ANNOT_LINE: "Note",
    pdfium.FPDF_ANNOT_POLYGON: "Note",
    pdfium.FPDF_ANNOT_INK: "Note",
}
_HIDDEN_FLAGS: Final = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_CHECKS: Final = (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON)
_LISTS: Final = (pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX)
_MAX_ANNOTATIONS = 2_000
_MAX_LABEL_CHARS = 120
# How far from a field its label may be, in points.
_LABEL_WIDTH, _LABEL_HEIGHT, _CHECK_LABEL_WIDTH = 220.0, 18.0, 260.0

Box = tuple[float, float, float, float]  # left, bottom, right, top


class PageNotes:
    """The annotations of one page."""

    def __init__(self, page: pypdfium2.PdfPage, text_page: pypdfium2.PdfTextPage, form: Any | None) -> None:
        """`form` is the handle of the document's form; None without one."""
        self._page, self._text_page, self._form = page, text_page, form
        self.drawn: list[Box] = []  # where stamps and signatures stand, whose words are only drawn

    def lines(self) -> list[str]:
        """Return a line for each field that is filled or can be ticked, and for each note."""
        count = min(pdfium.FPDFPage_GetAnnotCount(self._page.raw), _MAX_ANNOTATIONS)
        found: dict[str, None] = {}
        for number in range(count):
            annotation = pdfium.FPDFPage_GetAnnot(self._page.raw, number)
            if not annotation:
                continue
            try:
                for line in self._lines_of(annotation):
                    found[line] = None
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)
        return list(found)

    def _lines_of(self, annotation: Any) -> Iterator[str]:
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        if pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN_FLAGS:
            return
        if kind == pdfium.FPDF_ANNOT_WIDGET:
            yield from self._field(annotation)
            return
        words = _key(annotation, b"Contents").strip() if kind in _NOTES else ""
        if words:
            author = one_line(_key(annotation, b"T"))
            by = f" by {author}" if author and kind == pdfium.FPDF_ANNOT_TEXT else ""
            yield f"{_NOTES[kind]}{by}: {words}"
        elif kind in {pdfium.FPDF_ANNOT_STAMP, pdfium.FPDF_ANNOT_FREETEXT}:
            self._note_drawn(annotation)

    def _field(self, annotation: Any) -> Iterator[str]:
        if self._form is None:
            value = _key(annotation, b"V").strip()
            if value:
                yield f"{_key(annotation, b'TU') or _key(annotation, b'T') or 'Field'}: {value}"
            return
        kind = pdfium.FPDFAnnot_GetFormFieldType(self._form, annotation)
        if kind == pdfium.FPDF_FORMFIELD_SIGNATURE:
            self._note_drawn(annotation)
        elif kind in _CHECKS:
            checked = bool(pdfium.FPDFAnnot_IsChecked(self._form, annotation))
            if checked or kind == pdfium.FPDF_FORMFIELD_CHECKBOX:
                yield f"{self._check_label(annotation)}: {'checked' if checked else 'not checked'}"
        elif kind != pdfium.FPDF_FORMFIELD_PUSHBUTTON:
            # Of a list the field's value is what the form sends, such as a number; the page shows the option's words.
            chosen = self._chosen(annotation) if kind in _LISTS else ""
            value = chosen or self._of_form(pdfium.FPDFAnnot_GetFormFieldValue, annotation).strip()
            if value:
                yield f"{self._label(annotation)}: {value}"

    def _chosen(self, annotation: Any) -> str:
        """Return the selected options of a list, separated by commas."""
        options = []
        for number in range(max(0, min(500, pdfium.FPDFAnnot_GetOptionCount(self._form, annotation)))):
            if pdfium.FPDFAnnot_IsOptionSelected(self._form, annotation, number):

                def label(buffer: Any, size: int, number: int = number) -> int:
                    return int(pdfium.FPDFAnnot_GetOptionLabel(self._form, annotation, number, buffer, size))

                options.append(_string(label))
        return ", ".join(options)

    def _label(self, annotation: Any) -> str:
        """Return what a field is called: its description, the words left of it or above it, or its name."""
        described = one_line(self._of_form(pdfium.FPDFAnnot_GetFormFieldAlternateName, annotation))
        box = _box(annotation)
        near = ""
        if not described and box is not None:
            left, bottom, right, top = box
            near = self._words(left - _LABEL_WIDTH, bottom, left, top) or self._words(
                left, top, right, top + _LABEL_HEIGHT
            )
        name = one_line(self._of_form(pdfium.FPDFAnnot_GetFormFieldName, annotation))
        return (described or near or name or "Field").rstrip(": ")[:_MAX_LABEL_CHARS]

    def _check_label(self, annotation: Any) -> str:
        described = one_line(self._of_form(pdfium.FPDFAnnot_GetFormFieldAlternateName, annotation))
        box = _box(annotation)
        near = ""
        if box is not None:
            left, bottom, right, top = box
            near = self._words(right, bottom, right + _CHECK_LABEL_WIDTH, top) or self._words(
                left - _LABEL_WIDTH, bottom, left, top
            )
        name = one_line(self._of_form(pdfium.FPDFAnnot_GetFormFieldName, annotation))
        parts = [part for part in (described or name, near) if part]
        return " – ".join(dict.fromkeys(parts))[: 2 * _MAX_LABEL_CHARS] or "Box"

    def _words(self, left: float, bottom: float, right: float, top: float) -> str:
        text = self._text_page.get_text_bounded(left=left, bottom=bottom, right=right, top=top)
        return one_line(text)[-_MAX_LABEL_CHARS:]

    def _note_drawn(self, annotation: Any) -> None:
        box = _box(annotation)
        if box is not None and box[2] > box[0] and box[3] > box[1]:
            self.drawn.append(box)

    def _of_form(self, function: Any, annotation: Any) -> str:
        return _string(lambda buffer, size: int(function(self._form, annotation, buffer, size)))


def drawn_words(document: pypdfium2.PdfDocument, index: int, boxes: list[Box]) -> list[str]:
    """Return the words that stamps and signatures show, which are made part of the page for that."""
    page = document[index]
    done = pdfium.FPDFPage_Flatten(page.raw, pdfium.FLAT_NORMALDISPLAY)
    page.close()
    if done == pdfium.FLATTEN_FAIL:
        return []
    page = document[index]
    text_page = page.get_textpage()
    words = [one_line(text_page.get_text_bounded(left=a, bottom=b, right=c, top=d)) for a, b, c, d in boxes]
    text_page.close()
    page.close()
    return [line for line in words if line]


def attachment_names(document: pypdfium2.PdfDocument) -> list[str]:
    """Return the names of the files that are attached to a document."""
    names = []
    for number in range(min(200, pdfium.FPDFDoc_GetAttachmentCount(document.raw))):
        attachment = pdfium.FPDFDoc_GetAttachment(document.raw, number)

        def name(buffer: Any, size: int, attachment: Any = attachment) -> int:
            return int(pdfium.FPDFAttachment_GetName(attachment, buffer, size))

        names.append(one_line(_string(name)))
    return [name for name in names if name]


def _key(annotation: Any, key: bytes) -> str:
    return _string(lambda buffer, size: int(pdfium.FPDFAnnot_GetStringValue(annotation, key, buffer, size)))


def _string(fill: Callable[[Any, int], int]) -> str:
    """Return a text that a function of pdfium writes in UTF-16 into a buffer; it returns the number of bytes."""
    size = fill(None, 0)
    if size <= len("\0") * 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    fill(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return buffer.raw[:size].decode("utf-16-le", "ignore").rstrip("\0").replace("\r\n", "\n").replace("\r", "\n")


def _box(annotation: Any) -> Box | None:
    rectangle = pdfium.FS_RECTF()
    if not pdfium.FPDFAnnot_GetRect(annotation, rectangle):
        return None
    return rectangle.left, rectangle.bottom, rectangle.right, rectangle.top
