"""Documents inside a DOCX that its body shows: what report generators and mail merges put in as HTML, text or DOCX."""

from __future__ import annotations

import io
from collections.abc import Callable
from email import message_from_bytes, policy
from typing import Final

from errors import DocumentError
from rag.ingest.formats.blocks import Block, File, InnerFile
from rag.ingest.formats.encodings import decode
from rag.ingest.formats.html import decode_html, html_blocks
from rag.ingest.media_types import DOCX, HTML, MAIL, PLAIN, detect

MAX_CHUNKS: Final = 200
_WEB_ARCHIVES: Final = (".mht", ".mhtml", ".eml")


def chunk_blocks(name: str, data: bytes, read_docx: Callable[[File], list[Block]]) -> list[Block]:
    """Return the blocks of a part. `read_docx` reads one that is a DOCX. A part that cannot be read costs itself."""
    try:
        ending = ".eml" if name.lower().endswith(_WEB_ARCHIVES) else name
        kind = detect(io.BytesIO(data), ending)
        if kind == MAIL:
            return _web_archive(data)
        if kind == HTML:
            return html_blocks(decode_html(data))
        if kind == DOCX:
            return read_docx(InnerFile(data))
        return [Block(decode(data))] if kind == PLAIN else []
    except DocumentError:
        return []


def _web_archive(data: bytes) -> list[Block]:
    """Return the blocks of the page that an archive of mail's form begins with."""
    for part in message_from_bytes(data, policy=policy.compat32).walk():
        if part.get_content_type() == "text/html":
            payload = part.get_payload(decode=True)
            return html_blocks(decode_html(payload)) if isinstance(payload, bytes) else []
    return []
