"""Vector stores: named sets of documents. A document may be in several."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from schemas.attribute_filters import AttributeValue
from schemas.base import Frozen
from schemas.documents import Upload, UploadStatus


class StoreFileStatus(StrEnum):
    """The state of a file of a store. Questions find only `completed` files; every file leaves `in_progress`."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class StoreSettings(Frozen):
    """What the owner of a store may change. The store expires after `expires_days` without use; None for never."""

    name: str = ""
    description: str | None = None
    details: dict[str, str] = {}  # noqa: RUF012  pydantic copies it
    expires_days: int | None = None


class VectorStore(StoreSettings):
    """A named set of documents of a user. `details` are the owner's texts."""

    store_id: str
    user_id: str
    created_at: datetime
    last_active_at: datetime

    @property
    def expires_at(self) -> datetime | None:
        """When the store expires if it is not used before."""
        return None if self.expires_days is None else self.last_active_at + timedelta(days=self.expires_days)

    @property
    def expired(self) -> bool:
        """True if the store was not used for too long."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


class StoreFile(Frozen):
    """A document in a store, with the attributes that it has there. `cancelled`: its batch was, before it was ready."""

    store_id: str
    upload: Upload
    attributes: dict[str, AttributeValue] = {}  # noqa: RUF012  pydantic copies it
    cancelled: bool = False
    created_at: datetime

    @property
    def status(self) -> StoreFileStatus:
        """Whether questions find the document."""
        if self.cancelled:
            return StoreFileStatus.CANCELLED
        if self.upload.indexed_at is not None:
            return StoreFileStatus.COMPLETED
        failed = self.upload.status is UploadStatus.FAILED
        return StoreFileStatus.FAILED if failed else StoreFileStatus.IN_PROGRESS


class StoreTotals(Frozen):
    """How many files of a store, or of a batch, are in which state, and the bytes of the completed ones."""

    counts: dict[StoreFileStatus, int] = {}  # noqa: RUF012  pydantic copies it
    used_bytes: int = 0

    def count(self, status: StoreFileStatus) -> int:
        """Return how many files are in a state."""
        return self.counts.get(status, 0)


class FileBatch(Frozen):
    """Files that were added to a store together."""

    batch_id: str
    store_id: str
    upload_ids: tuple[str, ...]
    cancelled: bool = False
    created_at: datetime


class StoreMembers(Frozen):
    """The documents of stores that a question may search, with their attributes; how many more are being indexed."""

    attributes: dict[str, dict[str, AttributeValue]]
    not_searched: int = 0

    def of(self, upload_id: str) -> Mapping[str, AttributeValue]:
        """Return the attributes of a document."""
        return self.attributes.get(upload_id, {})
