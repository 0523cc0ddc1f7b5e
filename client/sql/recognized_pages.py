"""The pages that were read by OCR, which takes a second a page: their texts, and where the words stand.

Each reading of an upload writes rows of its own. Those of the reading that is searched are the oldest, since the
others are removed in the transaction that makes the upload ready.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, LargeBinary, String, Text, and_, delete, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from client.sql.database import Base, Database, UploadRow, UtcTime
from schemas import Page, UploadStatus


class RecognizedPageRow(Base):
    """A page: see schemas.Page. `read_at` is the time at which the reading of the upload began."""

    __tablename__ = "recognized_pages"

    upload_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    read_at: Mapped[datetime] = mapped_column(UtcTime, primary_key=True)
    page: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(String(100))
    text: Mapped[str] = mapped_column(Text)
    width: Mapped[float | None]
    height: Mapped[float | None]
    words: Mapped[bytes] = mapped_column(LargeBinary)


class RecognizedPageRepository:
    """Reads and adds recognized pages. Safe for threads and processes. Every method raises UploadsUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, page: Page, upload_id: str, *, file_id: str, read_at: datetime) -> None:
        """Add a page, unless the upload has another file by now, or is being deleted."""
        readable = and_(
            UploadRow.upload_id == upload_id,
            UploadRow.file_id == file_id,
            UploadRow.status != UploadStatus.DELETING,
        )
        width, height = page.size or (None, None)
        values = {
            "upload_id": upload_id,
            "read_at": read_at,
            "page": page.number,
            "label": page.label,
            "text": page.text,
            "width": width,
            "height": height,
            "words": page.words,
        }
        with self._database.writing() as connection:
            # The lock makes a delete wait for this row, so that the delete removes it.
            if connection.execute(select(UploadRow.upload_id).where(readable).with_for_update(read=True)).first():
                connection.execute(insert(RecognizedPageRow).values(values))

    def get(self, upload_id: str, number: int) -> Page | None:
        """Return a page of the reading that is searched, or else of the first; None if OCR did not read the page."""
        of_page = and_(RecognizedPageRow.upload_id == upload_id, RecognizedPageRow.page == number)
        statement = select(RecognizedPageRow.__table__).where(of_page).order_by(RecognizedPageRow.read_at).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(statement).first()
        if row is None:
            return None
        size = None if row.width is None or row.height is None else (row.width, row.height)
        return Page(number=number, label=row.label, text=row.text, words=row.words, size=size, recognized=True)

    def drop(self, upload_id: str, *, read_at: datetime) -> None:
        """Remove the pages of a reading that failed."""
        with self._database.writing() as connection:
            drop_reading(connection, upload_id, read_at)


def keep_reading(connection: Connection, upload_id: str, read_at: datetime | None) -> None:
    """Remove the pages of all other readings of an upload."""
    others = and_(RecognizedPageRow.upload_id == upload_id, RecognizedPageRow.read_at != read_at)
    connection.execute(delete(RecognizedPageRow).where(others))


def drop_reading(connection: Connection, upload_id: str, read_at: datetime | None) -> None:
    """Remove the pages of one reading of an upload."""
    of_reading = and_(RecognizedPageRow.upload_id == upload_id, RecognizedPageRow.read_at == read_at)
    connection.execute(delete(RecognizedPageRow).where(of_reading))


def drop_readings(connection: Connection, upload_id: str) -> None:
    """Remove all recognized pages of an upload."""
    connection.execute(delete(RecognizedPageRow).where(RecognizedPageRow.upload_id == upload_id))
