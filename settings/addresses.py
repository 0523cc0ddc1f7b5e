"""Checks of settings that are addresses, made before anything connects.

Each check raises ValueError and says what the value must be. The message never repeats the value, which may hold a
password.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

MAX_PORT = 65_535
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_HOST_WITHOUT_PORT = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
# Characters that need no escape in any URL, and no segment of dots. `//host` would be another server's address.
_ROOT_PATH = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
MAX_ROOT_PATH_CHARS = 200
_ESCAPE_HINT = " (in a user name or password, write / as %2F, ? as %3F, # as %23, @ as %40 and : as %3A)"


def split_url(url: str) -> SplitResult:
    """Split a URL into its parts. Raises ValueError also for an impossible port or host name."""
    hint = _ESCAPE_HINT if "@" in url else ""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"must be a URL{hint}") from None
    if re.search(r"[\s\x00-\x1f\x7f]", parts.netloc):
        raise ValueError("must not contain spaces")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"must have a port from 1 to {MAX_PORT}, or no port{hint}")
    try:
        (parts.hostname or "").rstrip(".").encode("idna")
    except UnicodeError:
        raise ValueError("must have a valid host name") from None
    return parts


def check_http_url(url: str) -> str:
    """Check the URL of an HTTP server and return it without trailing slashes."""
    if _scheme(url) not in {"http", "https"} or not split_url(url).hostname:
        raise ValueError("must be a URL that starts with http:// or https://")
    return url.rstrip("/")


def check_public_url(url: str) -> str:
    """Check the public address of this server and return it without trailing slashes."""
    url = check_http_url(url)
    parts = split_url(url)
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("must be an address such as https://rag.example/path, without user, ? and #")
    return url


def check_qdrant_urls(urls: str) -> str:
    """Check the URLs of the nodes of a Qdrant server, separated by commas; return them each with its port.

    Without a port `https://` means 443, as in any URL, and `http://` means 6333, as Qdrant's client reads it.
    """
    return ",".join(_with_port(check_http_url(url)) for url in split_list(urls)) or check_http_url(urls)


def _with_port(url: str) -> str:
    parts = urlsplit(url)
    if parts.port is not None:
        return url
    port = 443 if parts.scheme == "https" else 6333
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}"))


def check_valkey_url(url: str, *, ca_file: Path | None = None) -> str:
    """Check a Valkey URL and return it in the form that redis-py reads, with `ca_file` where the scheme is TLS.

    A path that is not a number and a port of 0 are refused: redis-py would silently use its defaults.
    """
    url = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss://, valkey:// or unix://")
    parts = split_url(url)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("must name a socket, such as unix:///run/valkey.sock")
    elif not re.fullmatch(r"/?|/[0-9]+/?", parts.path):
        raise ValueError("must end after the port or with a database number, such as /0")
    if "decode_responses" in dict(parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError("must not have decode_responses: job records hold bytes that are no text")
    # Imported here: most starts have no such URL, and importing redis takes 0.1 s.
    from redis import ConnectionPool
    from redis.exceptions import RedisError

    try:
        ConnectionPool.from_url(url).make_connection()  # does not connect yet
    except (ValueError, TypeError, OSError, RedisError):
        raise ValueError("must have only parameters that redis-py knows, with valid values") from None
    return _with_ca_file(url, ca_file)


def check_database_url(url: str) -> str:
    """Check the URL of the SQL database."""
    scheme = _scheme(url)
    if scheme not in {"postgresql", "postgres", "sqlite"}:
        raise ValueError("must start with postgresql:// or sqlite:///")
    if scheme == "sqlite":
        if not re.match(r"sqlite:///[^?]", url):
            raise ValueError("must name a file: sqlite:///relative.db or sqlite:////absolute.db")
        return url
    parts = split_url(url)
    if not (parts.hostname or parts.path.strip("/") or parts.query):
        raise ValueError("must name a server, such as postgresql://user:password@host/database")
    return url


def check_s3_url(url: str) -> str:
    """Check the URL of an S3 bucket, with or without a prefix."""
    if _scheme(url) != "s3" or not split_url(url).netloc:
        raise ValueError("must look like s3://bucket or s3://bucket/prefix")
    return url


def check_listen_host(host: str) -> str:
    """Check an address or host name to listen on, and return it without brackets."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ip_address(bare)
    except ValueError:
        # Resolvers read a name that ends in a number as an address (WHATWG URL, 3.5). Here the address is not valid.
        if not _HOST_NAME.fullmatch(bare) or bare.rstrip(".").rpartition(".")[2].isdigit():
            raise ValueError("must be an address such as 127.0.0.1, or a host name") from None
    return bare


def check_host_names(value: str) -> str:
    """Check a list of names that may stand in a Host header, without ports."""
    if not all(map(_HOST_WITHOUT_PORT.fullmatch, split_list(value))):
        raise ValueError("must be host names without scheme and port, separated by commas")
    return value


def check_origins(value: str) -> str:
    """Check a list of origins for CORS: `*` alone, or for each a scheme, a host and perhaps a port."""
    origins = split_list(value)
    if "*" in origins and len(origins) > 1:
        raise ValueError("must be * alone, or origins separated by commas")
    for origin in origins:
        parts = split_url(origin)
        if origin != "*" and (parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError("must be origins such as https://app.example, separated by commas, or *")
    return value


def check_proxies(value: str) -> str:
    """Check a list of proxies as uvicorn reads them. Uvicorn would keep an invalid address and never match it."""
    proxies = split_list(value)
    for proxy in proxies if set(proxies) != {"*"} else ():
        try:
            ip_network(proxy)
        except ValueError:
            raise ValueError("must be addresses or networks such as 10.0.0.0/8, separated by commas, or *") from None
    return value


def check_root_path(path: str) -> str:
    """Check the path under which a proxy makes the API public, and return it without a trailing slash; "" for `/`."""
    bare = path.removesuffix("/")
    if bare and (len(bare) > MAX_ROOT_PATH_CHARS or not _ROOT_PATH.fullmatch(bare)):
        raise ValueError("must be a path such as /rag, of letters, digits and . _ ~ -")
    return bare


def split_list(value: str) -> tuple[str, ...]:
    """Split a list separated by commas; empty items are dropped."""
    return tuple(filter(None, (item.strip() for item in value.split(","))))


def is_loopback(host: str) -> bool:
    """Return True if a host name or address leads to this machine and nowhere else."""
    name = host.lower().strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_https_or_loopback(url: str) -> bool:
    """Return True if nobody on the network can change what comes from this URL."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def without_password(url: str) -> str:
    """Return a URL in a form that can be printed, with `***` for any password."""
    url = re.sub(r"([?&]password=)[^&#]*", r"\1***", url)
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@", 1)))


def _with_ca_file(url: str, ca_file: Path | None) -> str:
    """Name the CA file in a rediss:// URL, where redis-py and RQ's commands both read it."""
    parts = urlsplit(url)
    if ca_file is None or parts.scheme != "rediss" or "ssl_ca_certs=" in parts.query:
        return url
    query = "&".join(filter(None, [parts.query, f"ssl_ca_certs={quote(str(ca_file))}"]))
    return urlunsplit(parts._replace(query=query))


def _scheme(url: str) -> str:
    """Return the scheme of any text in lower case; empty for a text without a scheme."""
    scheme, colon, _ = url.partition("://")
    return scheme.lower() if colon else ""
