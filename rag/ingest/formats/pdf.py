"""The text of a PDF, page by page: what is seen, by pdfium, by pypdf where pdfium gives no language, or by OCR."""

from __future__ import annotations

import logging
import math
import re
import signal
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import create_string_buffer
from itertools import islice
from pathlib import Path
from typing import Any

from errors import DocumentError
from rag.ingest.formats.blocks import File, PageText, TextTable, opened
from rag.ingest.formats.legibility import is_legible, misread_share
from rag.ingest.formats.ocr import DPI, MAX_PIXELS, OCR_FAILED, OcrError, Picture, RecognizedText, Recognizer
from rag.text.word_boxes import WordBox

UNREADABLE, NO_TEXT, ATTACHMENTS = "unreadable_text", "no_text", "attachments"
_PASSWORD, _NOT_A_PDF, _SECURITY = 4, 3, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_FORMAT, FPDF_ERR_SECURITY
# pdfium's mark for a word that is divided at the end of a line.
_DIVISION_MARKS = ("\x02", "\ufffe")
_DIVISION_MARK = re.compile("[\x02\ufffe]((?:\r?\n)?)")
# Our mark for a division whose hyphen is part of the word.
_HYPHEN = "\ufdd0"
_LINE_END = re.compile("[\x02\ufffe]\r?\n|\r\n?|\n")
_LONGEST_WORD = 200
_LAST_LETTERS, _FIRST_LETTERS = re.compile(r"\w{1,40}\Z"), re.compile(r"\w{1,40}")
# The CPU seconds that the second reader gets for a page that the first one garbles.
SECOND_READER_SECONDS = 3.0
_AGAIN_SECONDS = 0.2
# A page without text is drawn in this size; it has ink if this share of it is not paper.
_INK_SCALE = 0.25
_MIN_INK_SHARE = 0.004
# A page with less text is read by OCR where an image covers this share of the page, such as a scan with a stamp.
_FEW_CHARS, _IMAGE_SHARE, _MAX_OBJECTS = 200, 0.5, 200
# Of such a page OCR must find this many times the text.
_MUCH_MORE = 2
# A scan whose text has this share of misread words is read again; with the larger share, its text is left out at least.
_MISREAD_SHARE, _MOSTLY_MISREAD = 0.04, 0.2
_POINTS_PER_INCH, _MIN_DPI = 72, 70  # tesseract guesses the resolution below its 70 dpi
_HEADER_BYTES = 1024
_LABEL_BYTES = 64
_OBJECT_STREAM = re.compile(rb"/ObjStm\b[^\0]{0,400}?\bstream\r?\n")
# Names without which a file has no layers, and no words that are shown as pictures.
_LAYERS, _PICTURED = _NAMES = b"/OCProperties", b"/ActualText"
_MAX_UNPACKED_BYTES = 64 * 1024 * 1024


def read_pdfium(path: File, skip: int, recognizer: Recognizer) -> tuple[int, Iterator[PageText]]:
    """Open a PDF; return the number of its pages, and the pages after the first `skip`. Raises DocumentError."""
    from rag.ingest.formats import xfa

    document = open_document(path)
    if xfa.is_shell(document):
        pages = xfa.read_xfa(document)
        return len(pages), iter(pages[skip:])
    reader = _Reader(path, document, recognizer)
    if not len(document):
        raise DocumentError("broken", "the PDF is broken: it has no pages that can be found")
    return len(document), (reader.page(index) for index in range(skip, len(document)))


def open_document(path: File) -> Any:
    """Open a PDF. Raises DocumentError."""
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(_with_header(path))
    except pypdfium2.PdfiumError as error:
        if error.err_code == _PASSWORD:
            raise DocumentError("encrypted", "the file is encrypted and needs a password") from None
        if error.err_code == _SECURITY:
            raise DocumentError("encrypted", "the file is encrypted in a way that no reader here knows") from None
        reason = "its structure cannot be read" if error.err_code == _NOT_A_PDF else "it cannot be opened"
        raise DocumentError("broken", f"the PDF is broken: {reason}") from None


def visible_page(path: File, document: Any, index: int) -> Any:
    """Return a page of an open PDF without the text that nobody sees."""
    from rag.ingest.formats.pdf_hidden import UnseenText

    page = document[index]
    UnseenText(has_layers=_LAYERS in _named(path.read_bytes())).hide(page)
    return page


def _with_header(path: File) -> Path | bytes:
    """Return the file, or its bytes behind the header that the file lacks."""
    with path.open("rb") as file:
        if b"%PDF-" in file.read(_HEADER_BYTES):
            return path if isinstance(path, Path) else path.read_bytes()
    return b"%PDF-1.7\n" + path.read_bytes()


class _Reader:
    """Reads the pages of one open file."""

    def __init__(self, path: File, document: Any, recognizer: Recognizer) -> None:
        import pypdfium2.raw as pdfium

        from rag.ingest.formats.page_tables import TableReader
        from rag.ingest.formats.pdf_forms import attachment_names
        from rag.ingest.formats.pdf_hidden import UnseenText
        from rag.ingest.formats.pdf_pictured import PicturedWords

        self._path, self._document, self._recognizer = path, document, recognizer
        self._second: Any | None = None
        self._attached = attachment_names(document)
        self._tables = TableReader(_stored)
        if pdfium.FPDF_GetFormType(document.raw) != pdfium.FORMTYPE_NONE:
            document.init_forms()
        self._form = document.formenv.raw if document.formenv else None
        named = _named(path.read_bytes())
        self._unseen = UnseenText(has_layers=_LAYERS in named)
        self._pictured = PicturedWords() if _PICTURED in named else None
        self._name = create_string_buffer(_LABEL_BYTES)

    def page(self, index: int) -> PageText:
        """Return a page. Raises DocumentError."""
        import pypdfium2

        try:
            text, extra, is_picture, tables = self._read(index)
            label = self._label(index)
        except (pypdfium2.PdfiumError, IndexError, ValueError):
            raise DocumentError("broken", f"the PDF is broken: page {index + 1} cannot be opened") from None
        warning = NO_TEXT if is_picture and not text.strip() else ""
        misread = misread_share(text) if is_picture else 0.0
        if not is_legible(text):
            text, tables = self._second_text(index), ()
            warning = "" if text else UNREADABLE
        words: tuple[WordBox, ...] = ()
        takes_ocr = False
        if (is_picture or warning) and self._recognizer.languages:
            try:
                recognized = self._recognize(index, shorter=text)
            except OcrError:
                warning = warning and OCR_FAILED
            else:
                takes_ocr = recognized is not None or not text.strip()
                if recognized is not None:
                    text, words, tables, warning = recognized.text, recognized.words, (), ""
                    misread = 0.0
        if misread > _MOSTLY_MISREAD:
            text, tables, warning = "", (), UNREADABLE
        if extra:
            text = "\n\n".join(part for part in (text.rstrip(), "\n".join(extra)) if part)
        if index == 0 and self._attached:
            warning = warning or ATTACHMENTS
        size = self._document.get_page_size(index) if takes_ocr or warning else None
        return PageText(label, text, None, warning, words, size, takes_ocr, tables=tables)

    def _label(self, index: int) -> str:
        """Return the printed label of a page, "" without one, in one call for a short one."""
        import pypdfium2.raw as pdfium

        size = pdfium.FPDF_GetPageLabel(self._document.raw, index, self._name, len(self._name))
        if size > len(self._name):
            return str(self._document.get_page_label(index))
        return self._name.raw[: max(0, size - 2)].decode("utf-16-le", "ignore")

    def _recognize(self, index: int, *, shorter: str) -> RecognizedText | None:
        """Return the text of a page by OCR; None if that is no language, or little more than what is known already.

        Raises OcrError.
        """
        width, height = self._document.get_page_size(index)
        scale = min(DPI / _POINTS_PER_INCH, math.sqrt(MAX_PIXELS / max(width * height, 1.0)))
        recognized = self._recognizer.read(
            lambda: self._draw(index, scale), dpi=round(max(scale * _POINTS_PER_INCH, _MIN_DPI))
        )
        if recognized is None or not is_legible(recognized.text):
            return None
        misread = misread_share(shorter)
        better = misread > _MISREAD_SHARE and 2 * misread_share(recognized.text) < misread
        return recognized if better or len(recognized.text) > _MUCH_MORE * len(shorter.strip()) else None

    def _draw(self, index: int, scale: float) -> Picture:
        """Return the picture of a page without its notes and form fields, whose text is read already."""
        bitmap = self._document[index].render(scale=scale, grayscale=True, may_draw_forms=False, draw_annots=False)
        width, height, stride = bitmap.width, bitmap.height, bitmap.stride
        data = memoryview(bitmap.buffer).cast("B")
        rows = (data[row * stride : row * stride + width] for row in range(height))
        return Picture(width, height, b"".join(rows))

    def _read(self, index: int) -> tuple[str, list[str], bool, tuple[TextTable, ...]]:
        """Return the text of a page, what it shows beside it, whether it is a picture of text, and its tables."""
        import pypdfium2.raw as pdfium

        from rag.ingest.formats.pdf_forms import PageNotes, drawn_words
        from rag.ingest.formats.pdf_pictured import with_pictured

        page = self._document[index]
        self._unseen.hide(page)
        text_page = page.get_textpage()
        raw_text = _with_hyphens(text_page.get_text_range())
        text, tables = _stored(raw_text), self._tables.read(text_page, raw_text)
        if self._pictured is not None:
            lines = self._pictured.lines(page)
            ends = (match for match in _LINE_END.finditer(raw_text) if match[0][0] not in _DIVISION_MARKS)
            starts = [0, *(match.end() for match in ends)]
            text, tables = with_pictured(text, tables, lines, text_page, starts) if lines else (text, tables)
        extra, drawn = [], []
        if pdfium.FPDFPage_GetAnnotCount(page.raw):
            notes = PageNotes(page, text_page, self._form)
            extra, drawn = notes.lines(), notes.drawn
        is_picture = _is_picture(page, text.strip())
        text_page.close()
        page.close()
        if drawn:
            extra += drawn_words(self._document, index, drawn)
        if index == 0 and self._attached:
            extra.append(f"Attached files: {', '.join(self._attached)}")
        return text, extra, is_picture, tables

    def _second_text(self, index: int) -> str:
        """Return the text of a page by pypdf, "" where that is no better."""
        text = ""
        try:
            with _cpu_limit(SECOND_READER_SECONDS):
                text = str(self._pypdf().pages[index].extract_text())
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  on broken files pypdf raises many kinds
            return ""
        return text if text.strip() and is_legible(text) else ""

    def _pypdf(self) -> Any:
        if self._second is None:
            from pypdf import PdfReader

            logging.getLogger("pypdf").setLevel(logging.CRITICAL)
            self._second = PdfReader(opened(self._path))
        return self._second


def _stored(raw_text: str) -> str:
    """Return a text of pdfium with divided words joined, and line feeds alone."""
    if any(mark in raw_text for mark in _DIVISION_MARKS):
        raw_text = _DIVISION_MARK.sub("", raw_text)
    if _HYPHEN in raw_text:
        raw_text = raw_text.replace(_HYPHEN, "-")
    return raw_text.replace("\r\n", "\n").replace("\r", "\n")


def _with_hyphens(raw_text: str) -> str:
    """Mark the hyphens at ends of lines of pdfium's text that belong to addresses or to words with a hyphen.

    The length of the text stays the same.
    """
    if not any(mark in raw_text for mark in _DIVISION_MARKS):
        return raw_text

    def hyphen(mark: re.Match[str]) -> str:
        before = (raw_text[max(0, mark.start() - _LONGEST_WORD) : mark.start()].split() or [""])[-1]
        first, second = _LAST_LETTERS.search(before[-40:]), _FIRST_LETTERS.match(raw_text, mark.end())
        is_word = first and second and _is_hyphened(first[0], second[0], raw_text)
        if not is_word and not ("/" in before and "." in before):
            return mark[0]
        return f"{_HYPHEN}{mark[0][0]}{mark[1][1:]}" if mark[1] else _HYPHEN

    return _DIVISION_MARK.sub(hyphen, raw_text)


def _is_hyphened(first: str, second: str, text: str) -> bool:
    """Return True for parts that the text has with a hyphen elsewhere, and for those that no syllables begin with."""
    is_new = second[0].isdigit() or (second[0].isupper() and first[-1].islower())
    return is_new or f"{first}-{second}" in text


def _named(data: bytes) -> set[bytes]:
    """Return which of _NAMES a file may hold; they may stand in compressed object streams."""
    found = {name for name in _NAMES if name in data}
    left = _MAX_UNPACKED_BYTES
    for match in _OBJECT_STREAM.finditer(data):
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(memoryview(data)[match.end() :], left)
        except zlib.error:
            return set(_NAMES)  # encrypted, or packed in another way
        left -= len(text)
        found |= {name for name in _NAMES if name in text}
        if len(found) == len(_NAMES) or left <= 0:
            return set(_NAMES)
    return found


def _is_picture(page: Any, text: str) -> bool:
    """Return True if a page shows something but text, or an image with a few words or with words that are misread."""
    import pypdfium2.raw as pdfium

    if not text:
        return _has_ink(page)
    if len(text) >= _FEW_CHARS and misread_share(text) <= _MISREAD_SHARE:
        return False
    width, height = page.get_size()
    images = islice(page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3), _MAX_OBJECTS)
    for image in images:
        left, bottom, right, top = image.get_bounds()
        if (right - left) * (top - bottom) > _IMAGE_SHARE * width * height:
            return True
    return False


def _has_ink(page: Any) -> bool:
    """Return True if a page that has no text shows something, such as a scan."""
    import pypdfium2.raw as pdfium

    if not pdfium.FPDFPage_CountObjects(page.raw):
        return False
    width, height = page.get_size()
    scale = min(_INK_SCALE, 500 / max(width, height, 1))
    bitmap = page.render(scale=scale, grayscale=True, may_draw_forms=False, draw_annots=False)
    pixels = bytes(bitmap.buffer)
    bitmap.close()
    paper = pixels.count(max(pixels)) if pixels else 0
    return len(pixels) - paper > _MIN_INK_SHARE * len(pixels)


class _Interrupted(BaseException):
    """The time is up. No Exception, because pypdf catches those and goes on."""


@contextmanager
def _cpu_limit(seconds: float) -> Iterator[None]:
    """End the block when it takes more CPU time. Does nothing where signals are not to be had."""

    def stop(_number: int, _frame: Any) -> None:
        raise _Interrupted

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    except _Interrupted:
        return
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
