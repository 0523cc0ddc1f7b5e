"""Mail (EML, MBOX): the fields of its head, its text, and its attachments as files of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import Message
from typing import Any, Final

from errors import DocumentError
from rag.ingest.formats.blocks import Block, InnerFile, one_line
from rag.ingest.formats.encodings import decode, in_utf8
from rag.ingest.formats.html import decode_html, html_blocks

_FIELDS: Final = ("Subject", "From", "To", "Cc", "Date")
# The separator of messages in an MBOX file: "From ", an address, a date with its time and year.
_SEPARATOR = re.compile(rb"^From (?=[^\n]{0,200}\b\d\d?:\d\d)[^\n]{1,200}\b\d{4}[^\n]{0,20}\n", re.MULTILINE)
MAX_FIELD_CHARS = 1_000
# Signatures are no documents; what is encrypted is not read.
_SIGNATURES: Final = ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature")
_PKCS7: Final = ("application/pkcs7-mime", "application/x-pkcs7-mime")
# A plain text that is shorter, and much shorter than the page beside it, asks for a program that shows pages.
_SHORT_CHARS, _MUCH_LONGER = 300, 3
# Names for attachments that have none.
_ENDINGS: Final = {"message/rfc822": ".eml", "text/calendar": ".ics", "text/plain": ".txt", "text/html": ".html"}


class Mail:
    """A message: `subject`, its text as blocks, and its attachments."""

    def __init__(self, data: bytes) -> None:
        """Raises DocumentError for bytes that are no mail."""
        self._message = message_from_bytes(in_utf8(data), policy=policy.default)
        if not self._message.keys():
            raise DocumentError("broken", "the mail is broken: it has no fields")
        self.subject = _field(self._message, "Subject")
        self._bodies: list[Any] = []
        self._files: list[tuple[str, Any]] = []
        self._is_encrypted = False
        self._sort(self._message)

    def blocks(self) -> Iterator[Block]:
        """Yield the fields of the head, the text, and the names of attachments."""
        for name in _FIELDS:
            value = _field(self._message, name)
            if value:  # the subject is the section of what stands below it
                yield Block(f"{name}: {value}", "heading" if name == "Subject" else "row")
        if self._files:
            yield Block(f"Attachments: {', '.join(name for name, _ in self._files)}", "row")
        if self._is_encrypted:
            yield Block("", warning="encrypted")
        for part in self._bodies:
            data = part.get_payload(decode=True) or b""
            charset = _safely(part.get_content_charset) or ""
            if part.get_content_subtype() == "html":
                text = _decoded(data, charset) if charset else decode_html(data)
                yield from html_blocks(text)
            else:
                yield Block(_decoded(data, charset))

    def attachments(self) -> Iterator[tuple[str, InnerFile]]:
        """Yield the name and the bytes of each attachment. One at a time is decoded."""
        for name, part in self._files:
            if part.get_content_type() == "message/rfc822":
                inner = part.get_payload()
                data = inner[0].as_bytes() if isinstance(inner, list) and inner else b""
            else:
                data = part.get_payload(decode=True) or b""
            yield name, InnerFile(data)

    def _sort(self, root: Message) -> None:
        """Sort the parts into texts and attachments. Of the same text as HTML and plain, the plain one is taken."""
        waiting: list[Any] = [root]
        while waiting:
            part = waiting.pop()
            kind = part.get_content_type()
            if part.get_content_maintype() == "multipart" and isinstance(part.get_payload(), list):
                inner = part.get_payload()
                if kind == "multipart/alternative" and inner:
                    best = _best(inner)
                    inner = [best, *(one for other in inner if other is not best for one in _files_in(other))]
                if kind == "multipart/encrypted":
                    self._is_encrypted, inner = True, []
                waiting += reversed(inner)
            elif kind in _PKCS7 and "signed" not in str(part.get("Content-Type")).lower():
                self._is_encrypted = True
            elif kind not in _SIGNATURES:
                self._add(part, kind)

    def _add(self, part: Any, kind: str) -> None:
        name = one_line(str(_safely(part.get_filename) or ""))
        if kind in {"text/plain", "text/html"} and not _is_file(part):
            self._bodies.append(part)
        elif not kind.startswith("image/") or (_is_file(part) and not part.get("Content-ID")):
            self._files.append((name or _unnamed(part, len(self._files) + 1), part))  # no logo in the text


def messages(data: bytes) -> list[bytes]:
    """Return the messages of an MBOX file; the whole file as one where nothing separates them."""
    data = in_utf8(data)
    starts = [match.span() for match in _SEPARATOR.finditer(data)] or [(0, 0)]
    ends = [start for start, _ in starts[1:]] + [len(data)]
    return [data[start:end] for (_, start), end in zip(starts, ends, strict=True)]


def _best(parts: list[Any]) -> Any:
    """Return the plain text among alternatives if it says what the others say, else the last, which is the richest."""
    for part in parts:
        payload = part.get_payload(decode=True) if part.get_content_type() == "text/plain" else None
        size = len(payload.strip()) if payload else 0
        if size and (size >= _SHORT_CHARS or not _says_more(parts[-1], _MUCH_LONGER * size)):
            return part
    return parts[-1]


def _says_more(part: Any, chars: int) -> bool:
    """Return True if the first page in a part shows more characters."""
    page = next((one for one in part.walk() if one.get_content_type() == "text/html"), None)
    data = page.get_payload(decode=True) if page is not None else None
    if page is None or not isinstance(data, bytes) or len(data) <= chars:
        return False
    text = _decoded(data, _safely(page.get_content_charset) or "")
    return sum(len(block.text) for block in html_blocks(text)) > chars


def _files_in(part: Any) -> list[Any]:
    """Return the attachments in an alternative that is not taken: some programs put them beside the page."""
    leaves = [one for one in part.walk() if not one.is_multipart()] if part.is_multipart() else []
    return [one for one in leaves if _is_file(one)]


def _is_file(part: Any) -> bool:
    return bool(_safely(part.get_filename)) or part.get_content_disposition() == "attachment"


def _unnamed(part: Any, number: int) -> str:
    kind = part.get_content_type()
    inner = part.get_payload()
    subject = _field(inner[0], "Subject") if kind == "message/rfc822" and isinstance(inner, list) and inner else ""
    return (subject or f"attachment {number}") + _ENDINGS.get(kind, "")


def _field(message: Any, name: str) -> str:
    return one_line(str(_safely(lambda: message.get(name)) or ""))[:MAX_FIELD_CHARS]


def _safely(read: Any) -> Any:
    """Return what a function returns; None where the email package fails on malformed fields."""
    try:
        return read()
    except (MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001  the package fails in many ways
        return None


def _decoded(data: bytes, charset: str) -> str:
    try:
        return decode(data, declared=charset)
    except DocumentError:
        return data.decode(errors="replace")
