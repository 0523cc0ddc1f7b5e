"""The HTTP connection to a Qdrant server: its nodes, the key to send and the certificates to trust."""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING, Any

from client.qdrant.nodes import NodesTransport
from settings import Settings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

TIMEOUT_SECONDS = 10
# What the client believes to talk to, where there are several nodes.
NODES = "http://nodes.invalid:6333"


def connect(settings: Settings) -> QdrantClient:
    """Make a client of the server that QDRANT_URL names. The client connects on its first request."""
    from qdrant_client import QdrantClient  # takes 0.5 s, which the API does without

    first, *others = settings.qdrant_urls
    verify = tls_verification(settings)
    options: dict[str, Any] = {"verify": verify}
    if others:
        nodes = NodesTransport(settings.qdrant_urls, timeout_seconds=TIMEOUT_SECONDS, verify=verify)
        first, options = NODES, {"transport": nodes}
    with warnings.catch_warnings():
        # settings.unencrypted warns of what leaves the private network; the client warns of 127.0.0.1, too.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
        return QdrantClient(
            url=first,
            api_key=api_key(settings),
            timeout=TIMEOUT_SECONDS,
            check_compatibility=False,
            prefer_grpc=False,
            **options,
        )


def api_key(settings: Settings) -> str | None:
    """Return QDRANT_API_KEY; None if the setting is empty."""
    return settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None


def tls_verification(settings: Settings) -> ssl.SSLContext | bool:
    """Return the `verify` argument for httpx: trust only TLS_CA_FILE; True (httpx's default) when it is not set."""
    return True if settings.tls_ca_file is None else ssl.create_default_context(cafile=settings.tls_ca_file)
