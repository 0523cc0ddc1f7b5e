"""Ids of jobs and uploads: UUIDs that hold their creation time, to tell an expired id from an unknown one."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import lru_cache

from uuid_utils.compat import uuid7

from errors import JobNotFound

UUID_WITH_TIME = 7


def new_id() -> str:
    """Return a new id for a job or an upload."""
    return str(uuid7())


@lru_cache(maxsize=10_000)  # whoever watches a job has its id read with each event: 4 % of the API's CPU
def id_created_at(job_id: str) -> datetime | None:
    """Return when an id was created; None for a UUID of a version that holds no time.

    Raises JobNotFound when the text is not a UUID as `new_id` writes it.
    """
    try:
        parsed = uuid.UUID(job_id)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != job_id:
        raise JobNotFound("that is not a job id: job ids look like 0190a8c4-1d2e-7c3a-9f00-0123456789ab")
    if parsed.version != UUID_WITH_TIME:
        return None
    try:
        return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)  # RFC 9562, 5.7
    except (ValueError, OverflowError, OSError):
        return None
