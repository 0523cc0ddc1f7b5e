"""Names inside the keys of Valkey."""

from __future__ import annotations

from urllib.parse import quote


def quoted(name: str) -> str:
    """Write a name of somebody's choosing so that it cannot be taken for another part of a key.

    An owner "a:b" with a conversation "jobs" must not share a key with an owner "a" and a conversation "b".
    """
    return quote(name, safe="", errors="surrogatepass")
