"""EPUB: the chapters in reading order; each page is named by the section that it begins with."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

from errors import DocumentError
from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.blocks import Block, File, PageText, one_line
from rag.ingest.formats.html import decode_html, html_blocks
from rag.ingest.formats.package import Package, attribute, local

_PAGES: Final = ("application/xhtml+xml", "text/html")
# Fonts may be scrambled by these; anything else is a lock.
_FONT_SCRAMBLING: Final = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_ABOUT: Final = {"title": "Title", "creator": "Author", "publisher": "Publisher", "date": "Date"}
# Mostly the title of the book, in each chapter.
_TITLE: Final = re.compile(r"<title\b[^>]{0,200}>[^<]{0,2000}</title>", re.IGNORECASE)
MAX_TITLE_CHARS = 80
# A heading begins a page, so that the page is named after it, unless the page before would be shorter.
MIN_PART_CHARS = 2_000
# So many lines may stand above the heading of a page, such as the number of a chapter.
_LINES_ABOVE = 3


def read_epub(file: File) -> Iterator[PageText]:
    """Yield the pages of a book. Raises DocumentError."""
    package = Package(file, "EPUB file")
    _refuse_locked(package)
    container = package.xml("META-INF/container.xml")
    paths = [attribute(one, "full-path") for one in container.iter("{*}rootfile")] if container is not None else []
    root = package.xml(paths[0]) if paths and paths[0] else None
    if root is None:
        raise package.broken("it names no book")
    about = [
        Block(f"{_ABOUT[local(one)]}: {one_line(one.text)}", "row")
        for one in root.iter()
        if local(one) in _ABOUT and one.text and one.text.strip()
    ]
    section = ""
    for name in _reading_order(root, posixpath.dirname(paths[0] or "")):
        data = package.data(name)
        blocks = html_blocks(_TITLE.sub("", decode_html(data))) if data else []
        for part in _parts(blocks):
            title = next((one_line(block.text) for block in part[:_LINES_ABOVE] if block.kind == "heading"), "")
            label = title[:MAX_TITLE_CHARS] or section
            headings = [one_line(block.text)[:MAX_TITLE_CHARS] for block in part if block.kind == "heading"]
            section = next(reversed(headings), label)
            yield from pages_of_blocks([*about, *part], label=f"Section {label}" if label else "")
            about = []


def _parts(blocks: list[Block]) -> Iterator[list[Block]]:
    """Yield the blocks of a file in parts, each of which begins with a heading where it can, and is not very short."""
    part: list[Block] = []
    size = 0
    for block in blocks:
        if block.kind == "heading" and size >= MIN_PART_CHARS:
            yield part
            part, size = [], 0
        part.append(block)
        size += len(block.text)
    if part:
        yield part


def _reading_order(root: Any, folder: str) -> Iterator[str]:
    """Yield the parts of the book in the order of its spine, without its table of contents."""
    parts = {}
    for item in root.iter("{*}item"):
        navigation = "nav" in (item.get("properties") or "").split()
        if item.get("media-type") in _PAGES and not navigation:
            parts[item.get("id")] = posixpath.normpath(posixpath.join(folder, unquote(item.get("href") or "")))
    yield from (parts[one.get("idref")] for one in root.iter("{*}itemref") if one.get("idref") in parts)


def _refuse_locked(package: Package) -> None:
    encryption = package.xml("META-INF/encryption.xml")
    methods = encryption.iter("{*}EncryptionMethod") if encryption is not None else ()
    if any(attribute(method, "Algorithm") not in _FONT_SCRAMBLING for method in methods):
        raise DocumentError("encrypted", "the book is locked for one shop's readers")
