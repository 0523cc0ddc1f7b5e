"""Files inside files: the members of ZIP folders and the attachments of mail, each read as a file of its own kind.

The label of a page names the member. A member that cannot be read is a page without text, whose warning says why.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from errors import DocumentError, UnsupportedFile
from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.blocks import Block, File, InnerFile, PageText, opened
from rag.ingest.formats.encodings import decode, decode_names
from rag.ingest.formats.mail import Mail, messages
from rag.ingest.media_types import MAIL, MBOX, PDF, ZIP, ZIP_ERRORS, detect
from rag.text.page_names import is_place

# A ZIP in a mail in a ZIP is read, and no deeper one.
MAX_DEPTH = 3
MAX_MEMBERS = 5_000
MAX_MEMBER_BYTES = 64 * 1024 * 1024
# All members together. Below the first value any share is taken, above it this multiple of the archive, up to the last.
FREE_BYTES, MAX_RATIO, MAX_BYTES = 64 * 1024 * 1024, 100, 1024 * 1024 * 1024
MAX_NAME_CHARS = 70
_ENCRYPTED, _UTF_8_NAME = 0x1, 0x800  # flags of a member
# Folders that systems and version control add.
_HIDDEN = "__MACOSX/"

ReadFile = Callable[[str, File], Iterator[PageText]]


class Members:
    """Reads one file that holds files. `read_file` reads a file that holds none: its media type, the file."""

    def __init__(self, read_file: ReadFile, *, size: int) -> None:
        self._read_file = read_file
        self._bytes_left = min(max(FREE_BYTES, MAX_RATIO * size), MAX_BYTES)
        self._members_left = MAX_MEMBERS

    def open(self, kind: str, file: File) -> tuple[int, Iterator[PageText]]:
        """Return how many files are inside, at least one, and the pages. Raises DocumentError, also while iterating."""
        count = 1
        if kind == ZIP:
            with _zip(file) as archive:
                listed = _listed(archive)
            count = len(listed)
            if sum(info.file_size for info in listed) > self._bytes_left:  # some lie: `_data` counts once more
                raise _too_much()
        elif kind == MBOX:
            count = len(messages(file.read_bytes()))
        if not count:
            raise DocumentError("empty", "the file holds no files")
        return count, self._checked(self._pages(kind, file, place="", depth=1))

    def _checked(self, pages: Iterator[PageText]) -> Iterator[PageText]:
        """Yield the pages. Raises DocumentError at the end if nothing was read and nothing may be a scan."""
        useful = recognized = False
        reason, name = "empty", ""
        for page in pages:
            useful = useful or bool(page.text) or page.warning in _PICTURES
            if page.warning and not name:
                reason, name = page.warning, page.label
            # A page is read by reading the pages before it.
            recognized = recognized or page.recognized
            yield replace(page, recognized=True) if recognized else page
        if not useful:
            why = f"the first is {name}: {reason}" if name else "they hold no text"
            raise DocumentError(reason, f"none of the files inside can be read; {why}")

    def _pages(self, kind: str, file: File, *, place: str, depth: int) -> Iterator[PageText]:
        if kind == ZIP:
            yield from self._zip_pages(file, place=place, depth=depth)
        elif kind == MBOX:
            for number, data in enumerate(messages(file.read_bytes()), start=1):  # MAX_PAGES bounds them
                yield from self._mail_pages(data, place=f"{place}Message {number}", depth=depth)
        elif kind == MAIL:
            yield from self._mail_pages(file.read_bytes(), place=place.rstrip("/"), depth=depth)
        else:
            yield from self._read_file(kind, file)

    def _zip_pages(self, file: File, *, place: str, depth: int) -> Iterator[PageText]:
        with _zip(file) as archive:
            listed = _listed(archive)
            for info, name in zip(listed, _names(listed), strict=True):
                self._count()
                yield from self._member(place + name, name, partial(self._data, archive, info), depth=depth)

    def _mail_pages(self, data: bytes, *, place: str, depth: int) -> Iterator[PageText]:
        try:
            mail = Mail(data)
        except DocumentError:
            if not place.rpartition("/")[2].startswith("Message "):
                raise
            yield from _begun(pages_of_blocks([Block(decode(data))], label=place))  # of a mailbox: text without fields
            return
        label = f"{place}: {mail.subject}" if place.startswith("Message ") and mail.subject else _where(place)
        yield from _begun(pages_of_blocks(mail.blocks(), label=label))
        for name, attached in mail.attachments():
            self._count()
            yield from self._member(f"{place}/{name}" if place else name, name, partial(_same, attached), depth=depth)

    def _member(self, path: str, name: str, load: Callable[[], InnerFile], *, depth: int) -> Iterator[PageText]:
        """Yield the pages of a file inside. Its errors become a warning."""
        where = _where(path)
        try:
            file = load()
            kind = detect(io.BytesIO(file.data), name.rpartition("/")[2])
            if kind in {ZIP, MAIL, MBOX}:
                if depth == MAX_DEPTH:
                    raise DocumentError("too_large", "files are packed into files too deeply")
                yield from self._pages(kind, file, place=f"{path}/", depth=depth + 1)
            else:
                yield from _begun(_labelled(self._read_file(kind, file), kind, where))
        except UnsupportedFile as error:
            yield PageText(where, "", (), error.reason)
        except _BombError:
            raise
        except DocumentError as error:
            yield PageText(where, "", (), error.reason)
        except RecursionError:
            yield PageText(where, "", (), "broken")

    def _count(self) -> None:
        self._members_left -= 1
        if self._members_left < 0:
            raise _BombError("too_large", f"more than {MAX_MEMBERS} files are inside the file")

    def _data(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> InnerFile:
        if info.flag_bits & _ENCRYPTED:
            raise DocumentError("encrypted", "the file is encrypted and needs a password")
        limit = min(MAX_MEMBER_BYTES, self._bytes_left)
        try:
            with archive.open(info) as part:
                data = part.read(limit + 1) if info.file_size <= limit else b""
        except ZIP_ERRORS:
            raise DocumentError("broken", "the file cannot be unpacked") from None
        if max(len(data), info.file_size) > limit:
            if limit < MAX_MEMBER_BYTES:
                raise _too_much()
            raise DocumentError("too_large", "the file unpacks to more than is allowed")
        self._bytes_left -= len(data)
        return InnerFile(data)


class _BombError(DocumentError):
    """The whole file is refused."""


def _too_much() -> _BombError:
    return _BombError("too_large", "the files inside unpack to more than is allowed")


# Warnings of pages that are pictures: the caller says what to do about them.
_PICTURES = ("no_text", "unreadable_text", "ocr_failed")


def _zip(file: File) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(opened(file))
    except ZIP_ERRORS:
        raise DocumentError("broken", "the ZIP file is broken: its list of files cannot be read") from None


def _listed(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files of an archive, without hidden ones, as of a folder."""
    return [
        info
        for info in archive.infolist()
        if not info.is_dir()
        and not info.filename.startswith(_HIDDEN)
        and not any(part.startswith(".") and part.strip(".") for part in info.filename.split("/"))
    ]


def _names(infos: list[zipfile.ZipInfo]) -> list[str]:
    """Return the names of files, in the encoding of the machine that made the archive where it names none.

    Python reads them as cp437, as the format says. macOS writes UTF-8 all the same, Windows its old encoding.
    """
    raw = [
        b"" if info.flag_bits & _UTF_8_NAME or info.filename.isascii() else info.filename.encode("cp437", "replace")
        for info in infos
    ]
    text = decode_names(b"\n".join(raw))
    read = text.split("\n") if text is not None else []
    if len(read) != len(raw):
        return [info.filename for info in infos]
    return [name or info.filename for name, info in zip(read, infos, strict=True)]


def _labelled(pages: Iterator[PageText], kind: str, where: str) -> Iterator[PageText]:
    """Yield the pages with labels that name their file. Pages of PDFs and parts of long files are numbered."""
    for number, page in enumerate(pages, start=1):
        inside = page.label if is_place(page.label) else ""
        if not inside and kind == PDF:
            inside = f"page {page.label or number}"
        elif not inside and number > 1:
            inside = f"part {number}"
        yield replace(page, label=f"{where}, {inside}" if inside else where, size=None)


def _begun(pages: Iterator[PageText]) -> Iterator[PageText]:
    for number, page in enumerate(pages):
        yield replace(page, begins=True) if number == 0 else page


def _same(file: InnerFile) -> InnerFile:
    return file


def _where(path: str) -> str:
    """Return the label of a file inside, "" for the file itself."""
    return path if path.startswith("Message ") or not path else f"File {_shortened(path)}"


def _shortened(path: str) -> str:
    """Return the end of a path that is too long for a label."""
    return path if len(path) <= MAX_NAME_CHARS else f"…{path[1 - MAX_NAME_CHARS :]}"
