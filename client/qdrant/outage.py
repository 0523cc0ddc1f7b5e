"""Which responses of a Qdrant server mean that it cannot answer now."""

from __future__ import annotations

from http import HTTPStatus

_TRY_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def is_outage(status: int) -> bool:
    """Return True for a response by which a server says that it cannot answer now, such as one of a half-dead cluster.

    An outage passes. Other failures do not, such as a wrong key.
    """
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_AGAIN
