"""The text of files, page by page, one reader for each kind. Runs in the child process of reader_process.py.

Imports only `errors` of this program, so that the child starts fast. Each reader imports its library when it is called.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from errors import DocumentError
from rag.text.invisible import strip_controls

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
MARKDOWN = "text/markdown"

# A text without pages is split into parts of about this many characters.
PART_CHARS = 20_000
# A text file may be larger than its text by this factor: UTF-16 doubles the size, markup adds to it.
FILE_BYTES_PER_TEXT_BYTE = 4
_PASSWORD = 4  # FPDF_ERR_PASSWORD
_NOT_A_PDF = 3  # FPDF_ERR_FORMAT
# pdfium's mark for a word that is divided at the end of a line.
_DIVISION_MARK = re.compile("[\x02\ufffe](?:\r?\n)?")
# The encodings to try for a text that is not Unicode. More encodings make the guess worse: a short text fits many.
_LEGACY_ENCODINGS = ("cp1252", "cp1251", "cp1253", "gb18030", "shift_jis", "euc_kr", "big5")
_UNSTORABLE = re.compile("[\ud800-\udfff]")
_BLOCK_TAGS = (
    *("address", "article", "aside", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "figcaption", "footer"),
    *("form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"),
    *("table", "title", "tr", "ul"),
)
_INVISIBLE_TAGS = ("script", "style", "template", "noscript", "svg", "iframe", "object")

# The printed label of a page, "" without a label, and its text.
PageText = tuple[str, str]


def read_pages(path: Path, *, reader: str, skip: int, max_text_bytes: int) -> tuple[int, Iterator[PageText]]:
    """Open a file; return the number of its pages, and the pages after the first `skip`.

    `reader` is a media type or, for PDFs, `pdfium` or `pypdf`. Raises DocumentError, also while iterating.
    """
    if reader == "pdfium":
        return _pdfium(path, skip)
    if reader == "pypdf":
        return _pypdf(path, skip)
    if path.stat().st_size > max_text_bytes * FILE_BYTES_PER_TEXT_BYTE and reader != DOCX:
        raise DocumentError("too_large", "the file holds more text than is allowed (MAX_TEXT_MB)")
    text = {DOCX: _docx, HTML: _html, MARKDOWN: _markdown}.get(reader, _plain)(path)
    parts = list(_parts(text))
    return len(parts), (("", part) for part in parts[skip:])


def clean_text(text: str) -> str:
    """Drop control characters, which must not reach an answer, and lone surrogates, which JSON cannot hold."""
    return _UNSTORABLE.sub("", strip_controls(text))


def _pdfium(path: Path, skip: int) -> tuple[int, Iterator[PageText]]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _PASSWORD:
            raise DocumentError("encrypted", "the file is encrypted and needs a password") from None
        reason = "its structure cannot be read" if error.err_code == _NOT_A_PDF else "it cannot be opened"
        raise DocumentError("broken", f"the PDF is broken: {reason}") from None
    return len(document), (_pdfium_page(document, index) for index in range(skip, len(document)))


def _pdfium_page(document: Any, index: int) -> PageText:
    import pypdfium2

    try:
        page = document[index]
        text_page = page.get_textpage()
        text = text_page.get_text_range()
        label = document.get_page_label(index)
        text_page.close()
        page.close()
    except (pypdfium2.PdfiumError, IndexError, ValueError) as error:
        raise DocumentError("broken", f"the PDF is broken: page {index + 1}: {error}"[:300]) from None
    return label, _DIVISION_MARK.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def _pypdf(path: Path, skip: int) -> tuple[int, Iterator[PageText]]:
    documents = _langchain_documents(path)
    first = next(documents, None)
    if first is None:
        raise DocumentError("broken", "the file has no pages")
    return int(first.metadata["total_pages"]), _after(first, documents, skip)


def _after(first: Any, others: Iterator[Any], skip: int) -> Iterator[PageText]:
    """Yield the label and text of LangChain documents, without the first `skip`."""
    for document in islice(chain([first], others), skip, None):
        yield str(document.metadata.get("page_label") or ""), document.page_content


def _langchain_documents(path: Path) -> Iterator[Any]:
    """Yield one LangChain document for each page; each error of pypdf becomes a DocumentError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.document_loaders.parsers.pdf import PyPDFParser
        from langchain_core.documents.base import Blob
        from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, WrongPasswordError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # pypdf warns of each fault that it repairs
    try:
        yield from PyPDFParser().lazy_parse(Blob.from_path(path))
    except (FileNotDecryptedError, WrongPasswordError, DependencyError):
        raise DocumentError("encrypted", "the file is encrypted and needs a password") from None
    except LimitReachedError:
        raise DocumentError("too_large", "the PDF unpacks to more than is allowed") from None
    except RecursionError:
        raise DocumentError("broken", "the PDF is broken: its objects refer to each other in a circle") from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  on broken files pypdf raises many kinds, even KeyError and TypeError
        raise DocumentError("broken", f"the PDF is broken: {type(error).__name__}: {error}"[:300]) from None


def _plain(path: Path) -> str:
    """Return the text of a file in Unicode or, by a guess from its first MiB, in a legacy encoding."""
    from charset_normalizer import from_bytes

    data = path.read_bytes()
    for encoding in ("utf-8-sig", "utf-16") if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else ("utf-8-sig",):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    best = from_bytes(data[: 1024 * 1024], cp_isolation=list(_LEGACY_ENCODINGS)).best()
    return data.decode(best.encoding if best else "cp1252", errors="replace")


def _markdown(path: Path) -> str:
    from markdown_it import MarkdownIt

    return _html_text(MarkdownIt("commonmark").enable("table").render(_plain(path)))


def _html(path: Path) -> str:
    from bs4 import UnicodeDammit

    declared = UnicodeDammit(path.read_bytes(), ["utf-8"], is_html=True).unicode_markup
    return _html_text(declared if declared is not None else _plain(path))


def _html_text(markup: str) -> str:
    """Return the visible text of a page, each block on its own line."""
    from bs4 import BeautifulSoup, Comment

    soup = BeautifulSoup(markup, "lxml")
    for tag in soup.find_all(_INVISIBLE_TAGS):
        tag.decompose()
    for comment in soup.find_all(string=lambda string: isinstance(string, Comment)):
        comment.extract()
    for cell in soup.find_all(["td", "th"]):
        cell.append(" ")
    for string in soup.find_all(string=True):
        if string.find_parent("pre") is None:
            string.replace_with(re.sub(r"\s+", " ", str(string)))
    for block in soup.find_all(_BLOCK_TAGS):
        block.insert_before("\n")
        block.append("\n")
    lines = [" ".join(line.split()) for line in soup.get_text().split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _docx(path: Path) -> str:
    """Return the paragraphs and tables in their order; " | " joins the cells of a row."""
    import docx
    from docx.table import Table

    try:
        blocks = []
        for block in docx.Document(str(path)).iter_inner_content():
            if isinstance(block, Table):
                blocks += [" | ".join(cell.text.strip() for cell in row.cells) for row in block.rows]
            else:
                blocks.append(block.text)
        return "\n\n".join(text for text in blocks if text.strip())
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  on broken files the zip and XML readers raise many kinds
        raise DocumentError("broken", f"the DOCX file is broken: {type(error).__name__}"[:300]) from None


def _parts(text: str) -> Iterator[str]:
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
