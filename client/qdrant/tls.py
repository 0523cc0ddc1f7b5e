"""Which certificates are trusted, and which secrets would travel unencrypted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from settings import Settings

# Names that no public resolver knows: of containers and of networks of one's own (RFC 6762, 8375, 9476).
_PRIVATE_ENDINGS = (".internal", ".local", ".localhost", ".home.arpa", ".lan", ".alt")


def trusted(settings: Settings) -> ssl.SSLContext | bool:
    """Return what httpx takes as `verify`: the certificates of TLS_CA_FILE alone, else True, for its own."""
    return True if settings.tls_ca_file is None else ssl.create_default_context(cafile=settings.tls_ca_file)


def in_the_clear(settings: Settings) -> list[str]:
    """Say which secrets would cross other people's networks unencrypted, and what to do about it."""
    return [
        f"{variable} sends {secret} unencrypted to {host}, which is not on this machine or a private network: "
        f"use {safe}://"
        for variable, secret, host, safe in _unencrypted(settings)
        if not _is_private(host)
    ]


def _unencrypted(settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    queue = urlsplit(settings.queue_url)
    if queue.scheme == "redis":
        yield "VALKEY_URL", "questions, answers and any password", queue.hostname or "localhost", "rediss"
    for variable, url, key in (
        ("QDRANT_URL", settings.qdrant_url, settings.qdrant_api_key),
        ("OPENAI_BASE_URL", settings.openai_base_url, settings.openai_api_key),
        ("RERANK_URL", settings.rerank_url, settings.rerank_api_key),
    ):
        parts = urlsplit(url or "")
        if parts.scheme == "http":
            yield variable, f"documents{' and the key' if key else ''}", parts.hostname or "", "https"


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_ENDINGS)
    return address.is_private or address.is_loopback or address.is_link_local
