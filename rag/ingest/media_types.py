"""The media type of a file, by its content. The name decides between kinds of text; only a PDF may be named .pdf."""

from __future__ import annotations

import codecs
import re
import zipfile
import zlib
from typing import BinaryIO

from errors import DocumentError, UnsupportedFile

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS = "application/vnd.ms-excel"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
CSV = "text/csv"
TSV = "text/tab-separated-values"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
EPUB = "application/epub+zip"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
DOC = "application/msword"
PPT = "application/vnd.ms-powerpoint"
MAIL = "message/rfc822"
MBOX = "application/mbox"
JSON = "application/json"
JSON_LINES = "application/jsonl"
ZIP = "application/zip"
PNG, JPEG, TIFF, WEBP, BMP, GIF = "image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp", "image/gif"
IMAGES = (PNG, JPEG, TIFF, WEBP, BMP, GIF)
# Kinds that are read by the service of DOCUMENT_CONVERTER_URL, and not without it.
CONVERTED = (ODT, ODP, DOC, PPT)
# Files that hold files: each of these is read by its own kind.
CONTAINERS = (ZIP, MAIL, MBOX)
MEDIA_TYPES = (
    *(PDF, DOCX, PPTX, XLSX, XLS, ODS, EPUB, CSV, TSV, JSON, JSON_LINES, HTML, MARKDOWN, PLAIN),
    *(*CONTAINERS, *IMAGES, *CONVERTED),
)
# The kinds of text by a short name.
NAMES = {
    DOCX: "docx",
    PPTX: "pptx",
    XLSX: "xlsx",
    XLS: "xls",
    ODS: "ods",
    EPUB: "epub",
    CSV: "csv",
    TSV: "tsv",
    JSON: "json",
    JSON_LINES: "jsonl",
    HTML: "html",
    MARKDOWN: "markdown",
    PLAIN: "text",
    ZIP: "zip",
    MAIL: "mail",
    MBOX: "mbox",
    **dict.fromkeys(IMAGES, "ocr"),
}
ACCEPTED_KINDS = (
    "PDF, DOCX, PPTX, XLSX, XLSB, XLS, ODS, EPUB, CSV, TSV, JSON, JSONL, HTML, Markdown, plain text, "
    "mail (EML, MBOX), "
    "images (PNG, JPEG, TIFF, WebP, BMP, GIF) and ZIP"
)
_REFUSAL = f"files of this kind are not accepted, only {ACCEPTED_KINDS}"
_CONVERTED_KINDS = "ODT, ODP, DOC, PPT"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# The first part of an OpenDocument file is its media type, unpacked.
_OPEN_DOCUMENT = re.compile(rb"^PK\x03\x04.{26}mimetype(?P<type>application/[\w.+-]{1,80}?)PK", re.DOTALL)
_IMAGE_STARTS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PNG),
    (re.compile(rb"\xff\xd8\xff"), JPEG),
    (re.compile(rb"II\*\0|MM\0\*"), TIFF),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WEBP),
    (re.compile(rb"GIF8[79]a"), GIF),
    # The header's size tells a bitmap from a text that begins with "BM".
    (re.compile(rb"BM.{4}\0\0\0\0.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), BMP),
)
_MAIL_FIELD = re.compile(
    rb"^(From|To|Subject|Date|Message-ID|Received|MIME-Version|Return-Path)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
# The first line of a mailbox with a time in it, or a field below it.
_MAILBOX_START = re.compile(rb"From [^\n]{0,200}\b\d\d?:\d\d|From [^\n]{1,300}\n[\w-]{1,60}:[ \t]")
_MAIL_SUFFIXES = (".eml", ".mbox")
# A text without the ending of a mail is a mail if its head has so many of these fields.
_MIN_MAIL_FIELDS = 4
# What zipfile raises for archives and members that are damaged; for encrypted members it raises RuntimeError.
ZIP_ERRORS = (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, NotImplementedError, OSError, EOFError, zlib.error)
_MAX_TYPE_BYTES = 80
_MAIN_PARTS = {
    "word/document.xml": DOCX,
    "xl/workbook.xml": XLSX,
    "xl/workbook.bin": XLSX,  # XLSB
    "ppt/presentation.xml": PPTX,
}
# What the list of types says of the main part, which some programs call `word/document2.xml`.
_CONTENT_TYPES = "[content_types].xml"
_MAIN_TYPE = re.compile(rb'ContentType\s*=\s*["\']application/vnd\.([\w.-]{5,90})\.main(?:\+xml)?["\']', re.IGNORECASE)
_MAIN_KINDS = {b"word": DOCX, b"spreadsheet": XLSX, b"excel": XLSX, b"presentation": PPTX, b"powerpoint": PPTX}
_MAX_CONTENT_TYPES_BYTES = 256 * 1024
# A package that is cut off or damaged is of the kind that its name says; reading it says that it is broken.
_PACKAGE_SUFFIXES = {
    ".docx": DOCX,
    ".docm": DOCX,
    ".xlsx": XLSX,
    ".xlsm": XLSX,
    ".xlsb": XLSX,
    ".pptx": PPTX,
    ".pptm": PPTX,
    ".ods": ODS,
    ".epub": EPUB,
    ".zip": ZIP,
}

# Parts of zips that are programs.
_PROGRAM_PARTS = frozenset(("META-INF/MANIFEST.MF", "AndroidManifest.xml", "META-INF/"))

HEAD_BYTES = 64 * 1024
# Readers look for the header in the first KiB (PDF 1.7, implementation note 13).
PDF_HEADER_BYTES = 1024
# Only the directory of a zip is read, at most this many bytes: ten thousand names. Python needs ten times the memory.
ZIP_LIST_BYTES = 1024 * 1024
_UNICODE_MARKS = (
    *(codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
)
# In UTF-16 without a mark, this share of every other byte is zero where the text is Latin.
_MIN_ZERO_SHARE = 0.7
# What may precede the first tag. Matched piece by piece: one pattern with a star around it tries twenty comments in a
# row in a million ways, and does not end on forty.
_BEFORE_HTML = re.compile(rb"\s+|<\?xml[^>]*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_HTML_START = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
# In a file that is named HTML, any tag will do.
_TAG = re.compile(rb"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
# Formats whose bytes are text, but not text for reading.
_TEXT_LOOKALIKES = (b"{\\rtf", b"%!PS", b"%PDF")
_PDF_OBJECT = re.compile(rb"\b\d{1,7} \d{1,5} obj\b.{0,2000}?\bendobj\b", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_TEXT_SUFFIXES = (
    ".txt",
    ".text",
    ".md",
    ".markdown",
    ".html",
    ".htm",
    ".csv",
    ".tsv",
    ".log",
    ".rst",
    ".json",
    ".jsonl",
    ".ndjson",
)


def detect(file: BinaryIO, name: str, *, converts: bool = False) -> str:
    """Return the media type of a file, read from its start. The file is left at its beginning.

    `converts`: a service reads the kinds of CONVERTED, too.

    Raises:
        UnsupportedFile: `unsupported` for a kind that is not accepted, `not_a_pdf` for another kind named .pdf.
        DocumentError: the file is empty.

    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    lowered = name.lower()
    try:
        if not head:
            raise DocumentError("empty", "the file is empty")
        if b"%PDF-" in head[:PDF_HEADER_BYTES]:
            return PDF
        if lowered.endswith(".pdf") and _PDF_OBJECT.search(head):
            return PDF  # the header is missing
        if lowered.endswith(".pdf"):
            raise UnsupportedFile("not_a_pdf", "the file is named .pdf but is not a PDF")
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _zip_type(file, head, lowered, converts=converts)
        for start, kind in _IMAGE_STARTS:
            if start.match(head):
                return kind
        if head.startswith(OLE):
            return _ole_type(lowered, converts=converts)
        return _text_type(head, lowered)
    finally:
        file.seek(0)


def _ole_type(name: str, *, converts: bool) -> str:
    if name.endswith((".xls", ".xlsx", ".xlsb", ".xlsm")):
        return XLS
    if name.endswith((".docx", ".pptx")):
        return DOCX if name.endswith(".docx") else PPTX  # encrypted packages have the form of older files
    kind = DOC if name.endswith(".doc") else PPT if name.endswith(".ppt") else ""
    return _convertible(kind, converts=converts)


def _convertible(kind: str, *, converts: bool) -> str:
    """Return a kind of CONVERTED. Raises UnsupportedFile for any other kind, and without a service that converts."""
    if kind not in CONVERTED:
        raise _unsupported()
    if not converts:
        raise UnsupportedFile("unsupported", f"{_REFUSAL}; {_CONVERTED_KINDS} are with DOCUMENT_CONVERTER_URL")
    return kind


def _zip_type(file: BinaryIO, head: bytes, name: str, *, converts: bool) -> str:
    open_document = _OPEN_DOCUMENT.match(head)
    said = open_document["type"].decode() if open_document else ""
    if said in {ODS, EPUB}:
        return said
    if said in CONVERTED:
        return _convertible(said, converts=converts)
    try:
        with zipfile.ZipFile(_BoundedReader(file)) as archive:
            kind = _package_type(archive, set(archive.namelist()))
    except zipfile.BadZipFile:
        kind = next((kind for ending, kind in _PACKAGE_SUFFIXES.items() if name.endswith(ending)), "")
    except (*ZIP_ERRORS, RuntimeError):
        kind = ""
    if kind in CONVERTED:
        return _convertible(kind, converts=converts)
    if not kind or (kind == ZIP and open_document):
        raise _unsupported()
    return kind


def _package_type(archive: zipfile.ZipFile, names: set[str]) -> str:
    """Return the media type of an archive by its parts; "" for none of those that are read."""
    said = _said_type(archive) if "mimetype" in names else ""
    if said in {ODS, EPUB, *CONVERTED}:
        return said
    if "META-INF/container.xml" in names:
        return EPUB
    lowered = {name.lower(): name for name in names}  # case does not matter in names of parts (ECMA-376 part 2)
    if _CONTENT_TYPES in lowered:
        found = (kind for part, kind in _MAIN_PARTS.items() if part in lowered)
        return next(found, "") or _main_kind(archive, lowered[_CONTENT_TYPES])
    return ZIP if names and not names & _PROGRAM_PARTS else ""


def _main_kind(archive: zipfile.ZipFile, content_types: str) -> str:
    """Return the kind of OOXML that a package says its main part is; "" where it says none."""
    with archive.open(content_types) as part:
        found = _MAIN_TYPE.search(part.read(_MAX_CONTENT_TYPES_BYTES))
    said = found[1].lower() if found else b""
    return next((kind for word, kind in _MAIN_KINDS.items() if word in said), "")


def _said_type(archive: zipfile.ZipFile) -> str:
    """Return the media type that a package names in a part that is not its first, or is compressed."""
    with archive.open("mimetype") as part:
        return part.read(_MAX_TYPE_BYTES).decode("ascii", "replace").strip()


class _BoundedReader:
    """A file whose `read` raises OSError after ZIP_LIST_BYTES."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._remaining_bytes = ZIP_LIST_BYTES
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        limit = self._remaining_bytes + 1
        data = self._file.read(limit if size < 0 else min(size, limit))
        self._remaining_bytes -= len(data)
        if self._remaining_bytes < 0:
            raise OSError("the list of files is too long")
        return data


def _text_type(head: bytes, name: str) -> str:
    is_wide = head.startswith(_UNICODE_MARKS) or (name.endswith(_MAIL_SUFFIXES) and _is_unmarked_utf16(head))
    mail = _mail_type(_without_zeros(head) if is_wide else head, name)
    if mail is not None:
        return mail
    if head.startswith(_TEXT_LOOKALIKES) or not _is_text(head, name):
        raise _unsupported()
    head = _without_zeros(head)
    if _starts_as_html(head) or (name.endswith((".html", ".htm", ".xhtml")) and _TAG.search(head)):
        return HTML
    kinds = {".md": MARKDOWN, ".markdown": MARKDOWN, ".csv": CSV, ".tsv": TSV, ".json": JSON}
    kinds |= {".jsonl": JSON_LINES, ".ndjson": JSON_LINES}
    return next((kind for ending, kind in kinds.items() if name.endswith(ending)), PLAIN)


def _mail_type(head: bytes, name: str) -> str | None:
    """Return the kind of mail that a file is; None for any other file. A mail may hold bytes of any kind."""
    fields = {field.lower() for field in _MAIL_FIELD.findall(head.partition(b"\n\n")[0].partition(b"\r\n\r\n")[0])}
    if head.startswith(b"From ") and (len(fields) > 1 or (name.endswith(".mbox") and _MAILBOX_START.match(head))):
        return MBOX
    if name.endswith(_MAIL_SUFFIXES):
        return (MAIL if name.endswith(".eml") else MBOX) if fields else None
    return MAIL if len(fields) >= _MIN_MAIL_FIELDS and not name.endswith(_TEXT_SUFFIXES) else None


def _without_zeros(head: bytes) -> bytes:
    """Return the beginning of a text as ASCII shows it: in UTF-16, and behind a mark of Unicode, tags are tags, too."""
    mark = next((one for one in _UNICODE_MARKS if head.startswith(one)), b"")
    return head.removeprefix(mark).replace(b"\0", b"")


def _starts_as_html(head: bytes) -> bool:
    at = 0
    while before := _BEFORE_HTML.match(head, at):
        at = before.end()
    return _HTML_START.match(head, at) is not None


def _is_text(head: bytes, name: str) -> bool:
    if head.startswith(_UNICODE_MARKS):
        return True
    if _CONTROL.search(head):
        return name.endswith(_TEXT_SUFFIXES) and _is_unmarked_utf16(head)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return name.endswith(_TEXT_SUFFIXES)  # an older encoding: only the name shows that it is text
    return True


def _is_unmarked_utf16(head: bytes) -> bool:
    sample = head[: 4096 & -2]
    odd, even = sample[1::2].count(0), sample[::2].count(0)
    return max(odd, even) > _MIN_ZERO_SHARE * len(sample) / 2 and min(odd, even) == 0


def _unsupported() -> UnsupportedFile:
    return UnsupportedFile("unsupported", _REFUSAL)
