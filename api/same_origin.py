"""Whether a request comes from a page of this server, as browsers say of themselves in Origin and Sec-Fetch-Site."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_FOREIGN_SITES = {b"cross-site", b"same-site"}


def is_foreign(headers: Mapping[bytes, bytes], *, origins: Collection[str] = ()) -> bool:
    """Return True if a browser says that the request comes from a page of an origin that may not call."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin in origins or "*" in origins:
        return False
    if origin:
        return not _names_host(origin, headers)
    return headers.get(b"sec-fetch-site") in _FOREIGN_SITES


def is_same_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Return True if a browser says that the request comes from a page of this server.

    Sec-Fetch-Site is right also where a reverse proxy changes the Host header, but browsers send it over HTTPS and to
    this machine only.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin"
    return _names_host(headers.get(b"origin", b"").decode("latin-1"), headers)


def _names_host(origin: str, headers: Mapping[bytes, bytes]) -> bool:
    host = headers.get(b"host", b"").decode("latin-1")
    return bool(host) and origin in {f"http://{host}", f"https://{host}"}
