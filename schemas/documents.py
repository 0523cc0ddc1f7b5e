"""Uploads, documents, and what is made of them: pages and chunks."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from schemas.base import Frozen


class UploadStatus(StrEnum):
    """The state of an upload. `queued` and `processing` end in `ready` or `failed`; `deleting` ends with the row."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


class PageWarning(Frozen):
    """Text of a page that is missing. `reason` is one of `unreadable_text`, `no_text`, `ocr_failed`, `xfa_form`.

    For a file inside the upload that cannot be read, it is a reason for which an upload fails; `page_label` names the
    file.
    """

    page: int
    reason: str
    page_label: str = ""


class Upload(Frozen):
    """A file in the list of uploads.

    `job_id` is the present or the last job of the upload; None if index.py does the work. `indexed_at` is the last time
    at which the upload became ready; None before the first. Search finds the chunks only if `indexed_at` is set and no
    delete has begun. The chunks are then in the version `index_version` of the index. `purpose` is what a client under
    /v1 says the file is for. After `expires_at` the upload is deleted; None for never.
    """

    upload_id: str
    user_id: str
    file_id: str
    name: str
    media_type: str
    bytes: int
    sha256: str
    status: UploadStatus
    job_id: str | None
    pages: int | None = None
    pages_done: int = 0
    chunks: int | None = None
    reason: str | None = None
    error: str | None = None
    warnings: tuple[PageWarning, ...] = ()
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    indexed_at: datetime | None = None
    index_version: int | None = None
    purpose: str = "assistants"
    expires_at: datetime | None = None


class UploadTask(Frozen):
    """The task of a job: bring this upload to the state that its row asks for."""

    upload_id: str
    user_id: str = "local"


class Document(Frozen):
    """A file being indexed. `path` is a local path that this process can read."""

    upload_id: str
    path: str
    name: str
    user_id: str = "local"
    media_type: str = "application/pdf"


class Indexed(Frozen):
    """The result of indexing a document. `chunks` is the number of points now stored for it."""

    upload_id: str
    name: str
    pages: int
    chunks: int
    warnings: tuple[PageWarning, ...] = ()


class Removed(Frozen):
    """The result of deleting an upload."""

    upload_id: str
    name: str


class TableLine(Frozen):
    """A line of a table in words that can be read alone. The page's text has its words from `start` to `end`.

    `text` is "" where the page's text has the line as it is. `start` and `end` are equal for a caption or a header that
    stands on an earlier page. `names_rows`: the line is a title of the rows below it, up to the next such line.
    """

    text: str
    start: int
    end: int
    names_rows: bool = False


class PageTable(Frozen):
    """A table of a page: `rows` stand for the page's text from `start` to `end`, which may be empty.

    `context` are caption, unit, header and the like, which each part of the table repeats.
    """

    start: int
    end: int
    context: tuple[TableLine, ...] = ()
    rows: tuple[TableLine, ...]


class Page(Frozen):
    """A page of a document. `number` counts from 1; `label` is the number printed on it, such as `iv`.

    `headings` are the offsets of the headings in the text, from files that mark them; None where the layout of the page
    has to tell. `tables` are in the order of the text. `warning` says for programs why text of the page is missing,
    such as `unreadable_text`. `words` are the places of words that were read by OCR, packed by rag/text/word_boxes.py,
    on a picture of `size`: width and height in points; None for a page without a picture. `recognized`: to read the
    page once more takes OCR. `begins`: a file inside the file begins here. `lines` are offsets of the text in ascending
    order, each with the first and the last line of the file from there on; the last is 0 where each line feed of the
    text is one of the file. Empty for a file without lines.
    """

    number: int
    label: str
    text: str
    headings: tuple[int, ...] | None = None
    tables: tuple[PageTable, ...] = ()
    warning: str = ""
    words: bytes = b""
    size: tuple[float, float] | None = None
    recognized: bool = False
    begins: bool = False
    lines: tuple[tuple[int, int, int], ...] = ()


class TextMark(Frozen):
    """From `at` of the page's text on, up to the next mark: the section, and the lines of the file.

    `line` is 0 in a file without lines. `last_line` is 0 where each line feed of the text is one of the file.
    """

    at: int
    section: str = ""
    line: int = 0
    last_line: int = 0


class Place(Frozen):
    """Where a part of a chunk's text stands on the page: the part from `at` on, up to the next place.

    `original` is the page's text from `start` on, where a table's line says it in other words; "" where the part is the
    page's own text.
    """

    at: int
    start: int
    original: str = ""


class Chunk(Frozen):
    """A piece of one page: `text` is the page's text from `start` to `end`, in characters.

    If the chunk has lines of tables, `places` say for all of its text where it stands on the page. `section` is the
    heading above the chunk; a chunk with several sections, or of a file with lines, has `marks`. `page_title` has the
    first lines of the page, where a title may stand; it is empty where the file marks its headings. Two fields serve
    indexing and are not stored: `page_text`, the whole page, on the page's first chunk; `opening`, the document's first
    pages, on the document's first chunk.
    """

    id: str
    upload_id: str
    user_id: str
    name: str
    index: int
    page: int
    page_label: str
    start: int
    end: int
    text: str
    section: str = ""
    page_title: str = Field("", exclude_if=lambda title: not title)
    places: tuple[Place, ...] = Field((), exclude_if=lambda places: not places)
    marks: tuple[TextMark, ...] = Field((), exclude_if=lambda marks: not marks)
    page_text: str = Field("", exclude=True)
    opening: str = Field("", exclude=True)
