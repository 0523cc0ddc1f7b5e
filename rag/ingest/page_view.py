"""What the reader process answers about one page: its picture, or its text with the boxes of the characters.

Runs in the child process of reader_process.py, under the same limits as the reading of a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from errors import DocumentError
from rag.ingest.boxes import align, runs, word_runs
from rag.ingest.formats import images, pdf, pdf_view, xfa
from rag.ingest.formats.blocks import clean_text
from rag.ingest.formats.ocr import Recognizer
from rag.ingest.media_types import IMAGES
from rag.ingest.readers import read_pages


def answer(request: dict[str, Any], recognizer: Recognizer) -> bytes:
    """Return a picture, or the fields of a PageView as JSON. Raises DocumentError, `no_page` without such a page.

    The task `prepare` has no answer.
    """
    if request["task"] == "prepare":
        return b""
    path, index = Path(request["path"]), int(request["page"]) - 1
    if request["task"] == "picture":
        draw = _image if request["reader"] in IMAGES else _picture
        return draw(path, index, width=request["width"], kind=request["kind"])
    count, pages = read_pages(
        path,
        reader=request["reader"],
        skip=index,
        max_text_bytes=request["max_text_bytes"],
        recognizer=recognizer,
    )
    page = next(pages, None)
    if page is None:
        raise no_page(index, count)
    view: dict[str, Any] = {"pages": count, "label": clean_text(page.label) or str(index + 1)}
    view["text"] = clean_text(page.text)
    if request["reader"] == "pdfium":
        view |= _layout(path, index, view["text"])
    elif request["reader"] in IMAGES:
        view |= dict(zip(("width", "height"), images.size(path, index), strict=True))
    if page.words and "width" in view:
        found = word_runs(page.words, view["width"], view["height"])
        view["runs"] = [[*run[:3], *run.edges] for run in found]
    return json.dumps(view).encode()


def no_page(index: int, count: int) -> DocumentError:
    """Return the error for a page that the file does not have."""
    return DocumentError("no_page", f"the file has no page {index + 1}: it has {count}")


def _image(path: Path, index: int, *, width: int, kind: str) -> bytes:
    return pdf_view.encoded(images.picture(path, index, width=width), kind)


def _picture(path: Path, index: int, *, width: int, kind: str) -> bytes:
    document = pdf.open_document(path)
    if xfa.is_shell(document):
        raise DocumentError("no_picture", "the form has no fixed pages, and so no pictures of them")
    if index >= len(document):
        raise no_page(index, len(document))
    return pdf_view.picture(document, index, width=width, kind=kind)


def _layout(path: Path, index: int, text: str) -> dict[str, Any]:
    """Return the size of a page and the runs of its text; nothing for a form without fixed pages."""
    document = pdf.open_document(path)
    if xfa.is_shell(document):
        return {}
    width, height = pdf_view.page_size(document, index)
    page = pdf.visible_page(path, document, index)
    found = runs(text, align(text, pdf_view.placed_chars(page)))
    return {"width": round(width, 1), "height": round(height, 1), "runs": [[*run[:3], *run.edges] for run in found]}
