"""Where a job comes from: ids for its log lines and its trace, kept among the notes of its record.

A record may have been written by anybody, so what is read of it is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from client.rq.serializer import NotPlainData, PlainSerializer
from observability import logs, tracing

REQUEST_ID: Final = "request_id"
TRACEPARENT: Final = "traceparent"
ATTEMPT_TRACEPARENT: Final = "attempt_traceparent"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class JobOrigin:
    """The request and the spans that a job comes from. What is not known is None.

    `traceparent` is the span that submitted the job, `attempt_traceparent` the last attempt at the job: both as W3C's
    Trace Context writes spans.
    """

    request_id: str | None = None
    traceparent: str | None = None
    attempt_traceparent: str | None = None

    def notes(self) -> dict[str, str]:
        """Return the notes that keep the origin."""
        notes = {
            REQUEST_ID: self.request_id,
            TRACEPARENT: self.traceparent,
            ATTEMPT_TRACEPARENT: self.attempt_traceparent,
        }
        return {name: value for name, value in notes.items() if value is not None}


NO_ORIGIN: Final = JobOrigin()


def present_origin() -> JobOrigin:
    """Return the origin of a job that is submitted now: by this request, within this span."""
    return JobOrigin(logs.context_value("request_id"), tracing.current_span().traceparent)


def origin_of(notes: Mapping[str, Any]) -> JobOrigin:
    """Return the origin that notes keep, without what is not well-formed."""
    request_id = notes.get(REQUEST_ID)
    return JobOrigin(
        request_id if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id) else None,
        tracing.read_traceparent(notes.get(TRACEPARENT)),
        tracing.read_traceparent(notes.get(ATTEMPT_TRACEPARENT)),
    )


def read_origin(meta: bytes | None) -> JobOrigin:
    """Return the origin out of the field `meta` of a record."""
    try:
        notes = PlainSerializer.loads(meta) if meta else {}
    except NotPlainData:
        notes = {}
    return origin_of(notes if isinstance(notes, dict) else {})
