"""Ids of jobs and uploads: they tell when they were made, so that one that is gone is known from one that never was."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from errors import JobNotFound

UUID_WITH_TIME = 7


def mint_id() -> str:
    """Make the id of a job or an upload."""
    return str(uuid7())


def minted_at(job_id: str) -> datetime | None:
    """Return when an id was made, or None when ids of its kind do not tell. Raises JobNotFound for no id of ours."""
    try:
        parsed = uuid.UUID(job_id)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != job_id:
        raise JobNotFound("that is no job id: job ids look like 0190a8c4-1d2e-7c3a-9f00-0123456789ab")
    if parsed.version != UUID_WITH_TIME:
        return None
    try:
        return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)  # RFC 9562, 5.7
    except (ValueError, OverflowError, OSError):
        return None
