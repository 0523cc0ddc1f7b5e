"""Whether a setting that is an address makes sense, before anything connects there.

Each check raises ValueError with what the value must be. It never repeats the value, which may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

MAX_PORT = 65_535
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_HINT = " (in a user name or password, write / as %2F, ? as %3F, # as %23, @ as %40 and : as %3A)"


def split(url: str) -> SplitResult:
    """Take a URL apart. Raises ValueError also for a port or a host that cannot be."""
    hint = _HINT if "@" in url else ""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"must be a URL{hint}") from None
    if re.search(r"[\s\x00-\x1f\x7f]", parts.netloc):
        raise ValueError("must have no spaces in it")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"must have a port from 1 to {MAX_PORT}, or none{hint}")
    try:
        (parts.hostname or "").rstrip(".").encode("idna")
    except UnicodeError:
        raise ValueError("must have a host name that can be") from None
    return parts


def http(url: str) -> str:
    """Check the URL of a server asked by HTTP, and return it without a slash at its end."""
    if _scheme(url) not in {"http", "https"} or not split(url).hostname:
        raise ValueError("must be a URL that starts with http:// or https://")
    return url.rstrip("/")


def valkey(url: str) -> str:
    """Check a URL as redis-py reads it, and return it with a scheme that redis-py knows.

    Redis-py takes a path that is no number, and a port of 0, for the defaults.
    """
    url = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss://, valkey:// or unix://")
    parts = split(url)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("must name a socket, such as unix:///run/valkey.sock")
    elif not re.fullmatch(r"/?|/[0-9]+/?", parts.path):
        raise ValueError("must end after the port, or with the number of a database, such as /0")
    # Imported here: most starts have no such URL, and importing redis takes 0.1 s.
    from redis import ConnectionPool
    from redis.exceptions import RedisError

    try:
        ConnectionPool.from_url(url).make_connection()  # which does not connect yet
    except (ValueError, TypeError, OSError, RedisError):
        raise ValueError("must have only parameters that redis-py knows, with values that make sense") from None
    return url


def database(url: str) -> str:
    """Check the URL of the SQL database."""
    scheme = _scheme(url)
    if scheme not in {"postgresql", "postgres", "sqlite"}:
        raise ValueError("must start with postgresql:// or sqlite:///")
    if scheme == "sqlite":
        if not re.match(r"sqlite:///[^?]", url):
            raise ValueError("must name a file: sqlite:///relative.db or sqlite:////absolute.db")
        return url
    parts = split(url)
    if not (parts.hostname or parts.path.strip("/") or parts.query):
        raise ValueError("must name a server, such as postgresql://user:password@host/database")
    return url


def bucket(url: str) -> str:
    """Check the place of files on S3."""
    if _scheme(url) != "s3" or not split(url).netloc:
        raise ValueError("must look like s3://bucket or s3://bucket/prefix")
    return url


def host(name: str) -> str:
    """Check an address or a host name to listen on, and return it without brackets."""
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        ip_address(bare)
    except ValueError:
        # A name that ends in a number is an address to every resolver (WHATWG URL, 3.5), and a wrong one here.
        if not _HOST_NAME.fullmatch(bare) or bare.rstrip(".").rpartition(".")[2].isdigit():
            raise ValueError("must be an address such as 127.0.0.1, or a host name") from None
    return bare


def proxies(addresses: Collection[str]) -> None:
    """Check the addresses of proxies as uvicorn reads them: what it does not know for one it would never match."""
    for address in addresses if set(addresses) != {"*"} else ():
        try:
            ip_network(address)
        except ValueError:
            raise ValueError("must be addresses or networks such as 10.0.0.0/8, separated by commas, or *") from None


def _scheme(url: str) -> str:
    """Return the scheme of anything at all, in lower case."""
    scheme, colon, _ = url.partition("://")
    return scheme.lower() if colon else ""
