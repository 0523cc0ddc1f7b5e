"""The HTTP connection to a Qdrant server: the key to send and the certificates to trust."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

from settings import Settings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

TIMEOUT_SECONDS = 10
_TRY_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def connect(settings: Settings) -> QdrantClient:
    """Make a client of the server that QDRANT_URL names. The client connects on its first request."""
    from qdrant_client import QdrantClient  # takes 0.5 s, which the API does without

    return QdrantClient(
        url=settings.qdrant_url,
        api_key=api_key(settings),
        timeout=TIMEOUT_SECONDS,
        check_compatibility=False,
        prefer_grpc=False,
        verify=tls_verification(settings),
    )


def api_key(settings: Settings) -> str | None:
    """Return QDRANT_API_KEY; None when there is no key."""
    return settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None


def tls_verification(settings: Settings) -> ssl.SSLContext | bool:
    """Return the `verify` argument for httpx: trust only TLS_CA_FILE; True (httpx's default) when it is not set."""
    return True if settings.tls_ca_file is None else ssl.create_default_context(cafile=settings.tls_ca_file)


def is_outage(status: int) -> bool:
    """Return True for a response by which a server says that it cannot answer now, such as one of a half-dead cluster.

    An outage passes. Other failures do not, such as a wrong key.
    """
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_AGAIN
