"""Warnings about settings that send secrets unencrypted over public networks."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from settings.model import Settings

# Endings that no public resolver knows: names of containers and of private networks (RFC 6762, 8375, 9476).
_PRIVATE_ENDINGS = (".internal", ".local", ".localhost", ".home.arpa", ".lan", ".alt")


def unencrypted_secrets(settings: Settings) -> list[str]:
    """Return a warning for each setting that sends secrets unencrypted to a public host, with what to set instead."""
    return [
        f"{variable} sends {secret} unencrypted to {host}, which is not on this machine or a private network: "
        f"use {scheme}://"
        for variable, secret, host, scheme in _unencrypted(settings)
        if not _is_private(host)
    ]


def _unencrypted(settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    """Yield variable, secret, host and the encrypted scheme of each unencrypted address."""
    queue = urlsplit(settings.queue_url)
    if queue.scheme == "redis":
        yield "VALKEY_URL", "questions, answers and any password", queue.hostname or "localhost", "rediss"
    for variable, url, key in (
        *(("QDRANT_URL", url, settings.qdrant_api_key) for url in settings.qdrant_urls),
        ("OPENAI_BASE_URL", settings.openai_base_url, settings.openai_api_key),
        ("RERANK_URL", settings.rerank_url, settings.rerank_api_key),
        ("DOCUMENT_CONVERTER_URL", settings.document_converter_url, settings.document_converter_api_key),
    ):
        parts = urlsplit(url or "")
        if parts.scheme == "http":
            yield variable, f"documents{' and the key' if key else ''}", parts.hostname or "", "https"
    collector = urlsplit(settings.otel_exporter_otlp_endpoint or "")
    if collector.scheme == "http" and settings.otel_exporter_otlp_headers is not None:
        yield "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", collector.hostname or "", "https"


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_ENDINGS)
    return address.is_private or address.is_loopback or address.is_link_local
