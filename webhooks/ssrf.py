"""The check of webhook URLs against server-side request forgery (SSRF): only public HTTPS servers are allowed.

The settings can allow http and private addresses. A URL comes from a stranger and makes this service send a request.
So the URL is parsed strictly, its host is resolved once, every address of the host must be allowed, and the request
goes to one of these addresses. A host name that resolves differently a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final
from urllib.parse import urlsplit

from errors import WebhookUrlRefused

Address = IPv4Address | IPv6Address

MAX_URL_CHARS: Final = 2_048
MAX_NAME_CHARS: Final = 253
HTTP_PORTS: Final = {"http": 80, "https": 443}
FIRST_FREE_PORT: Final = 1_024
# Ports of services other than web servers: the blocked ports of the Fetch standard, databases and brokers.
SERVICE_PORTS: Final = (
    {1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432}
    | {5672, 5900, 6000, 6333, 6334, 6379, 6380, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092, 9200}
    | {10080, 10250, 11211, 27017}
)
# Names of this machine or this network, whatever a resolver answers (RFC 6761, 6762, 8375, and clouds).
LOCAL_SUFFIXES: Final = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa", "onion")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
_NUMBER = r"(?:\d+|0x[0-9a-f]*)"

# The ranges of IANA's special-purpose registries that are not globally reachable. They are listed here because the
# meaning of ipaddress.is_global differs between patch releases of Python.
_NOT_PUBLIC_V4 = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4"),
)
_PUBLIC_V6 = "2000::/3"
_NOT_PUBLIC_V6 = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
_NAT64 = "64:ff9b::/96"
_PRIVATE = (
    *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    *("::1/128", "fc00::/7"),
)
# Addresses outside the link-local range, which is refused as a whole, at which clouds hand out credentials.
_METADATA = ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")

_ALLOW_PRIVATE = "the operator can allow private addresses with WEBHOOK_ALLOW_PRIVATE=1"


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What the operator allows beyond public HTTPS servers."""

    allow_http: bool = False
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL. `host` is a lower-case name, or an address without brackets. `path` starts with a slash."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header: the host, and the port unless it is the default of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTP_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str, policy: AddressPolicy) -> Target:
    """Parse a URL and check everything that needs no network. Raises WebhookUrlRefused."""
    if len(url) > MAX_URL_CHARS:
        raise WebhookUrlRefused(f"is longer than {MAX_URL_CHARS} characters")
    if not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
        raise WebhookUrlRefused("must be plain ASCII: percent-encode the path, write the host as xn--...")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise WebhookUrlRefused("is not a valid URL") from None
    scheme = parts.scheme
    if scheme == "http" and not policy.allow_http:
        raise WebhookUrlRefused("must start with https://: the operator can allow http with WEBHOOK_ALLOW_HTTP=1")
    if scheme not in HTTP_PORTS:
        raise WebhookUrlRefused("must start with https://")
    if "@" in parts.netloc:
        raise WebhookUrlRefused("must not contain a user name or password")
    if "#" in url:
        raise WebhookUrlRefused("must not have a #fragment")
    if parts.netloc.endswith(":"):
        raise WebhookUrlRefused("is not a valid URL")
    host = _check_host(parts.hostname or "", bracketed="[" in parts.netloc, policy=policy)
    port = HTTP_PORTS[scheme] if port is None else port
    if port not in HTTP_PORTS.values() and (port < FIRST_FREE_PORT or port in SERVICE_PORTS):
        raise WebhookUrlRefused("has a port that is not for web servers: use 443, or one from 1024 up")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=scheme, host=host, port=port, path=path)


def resolve_addresses(target: Target, policy: AddressPolicy, *, timeout_seconds: float) -> list[str]:
    """Resolve the host of a target and return its addresses, all of them allowed.

    Raises WebhookUrlRefused if an address is not allowed, OSError if the name cannot be resolved in time.
    """
    addresses = [_parse_address(target.host)] if _is_address(target.host) else _resolve(target, timeout_seconds)
    for address in addresses:
        _require_allowed(address, policy)
    return [str(address) for address in dict.fromkeys(addresses)]


def lookup(host: str, port: int) -> list[str]:
    """Ask the system's resolver for the addresses of a name. Raises OSError."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in entries]


def is_public(address: Address) -> bool:
    """Return True if an address is globally reachable and assigned."""
    if isinstance(address, IPv6Address):
        if address in IPv6Network(_NAT64):
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        return address in IPv6Network(_PUBLIC_V6) and not any(address in IPv6Network(net) for net in _NOT_PUBLIC_V6)
    return not any(address in IPv4Network(net) for net in _NOT_PUBLIC_V4) and str(address) not in _METADATA


def _check_host(host: str, *, bracketed: bool, policy: AddressPolicy) -> str:
    """Check a host (a name or an address) and return it without a final dot."""
    if bracketed or ":" in host:
        if not _is_address(host) or "%" in host:
            raise WebhookUrlRefused("has an invalid address as its host")
    else:
        host = host.removesuffix(".")
        _check_name(host, policy)
    if _is_address(host):
        _require_allowed(_parse_address(host), policy)
    return host


def _check_name(host: str, policy: AddressPolicy) -> None:
    if len(host) > MAX_NAME_CHARS or not re.fullmatch(_NAME, host):
        raise WebhookUrlRefused("has an invalid host: use a name or an address, without spaces or percent signs")
    if re.fullmatch(_NUMBER, host.rpartition(".")[2]):
        # A resolver reads 2130706433, 0x7f.1 and 0177.0.0.1 all as 127.0.0.1.
        if not _is_address(host):
            raise WebhookUrlRefused("must write an address as four decimal numbers")
        return
    local = "." not in host or any(host == suffix or host.endswith(f".{suffix}") for suffix in LOCAL_SUFFIXES)
    if local and not policy.allow_private:
        raise WebhookUrlRefused(f"has a host of the local network: {_ALLOW_PRIVATE}")


def _require_allowed(address: Address, policy: AddressPolicy) -> None:
    if _is_allowed(address, policy):
        return
    if _is_allowed(address, AddressPolicy(allow_private=True)):
        raise WebhookUrlRefused(f"leads to an address that is not public: {_ALLOW_PRIVATE}")
    raise WebhookUrlRefused("leads to an address that is not public: use a public server")


def _is_allowed(address: Address, policy: AddressPolicy) -> bool:
    if is_public(address):
        return True
    if not policy.allow_private or str(address) in _METADATA:
        return False
    return any(address in ipaddress.ip_network(net) for net in _PRIVATE)


def _resolve(target: Target, timeout_seconds: float) -> list[Address]:
    """Look up the name in a thread that can be abandoned, for a resolver takes no time limit."""
    answers: list[list[str] | OSError] = []

    def look_up() -> None:
        try:
            answers.append(lookup(target.host, target.port))
        except (OSError, UnicodeError) as error:
            answers.append(OSError(str(error)))

    thread = threading.Thread(target=look_up, name="webhook-dns", daemon=True)
    thread.start()
    thread.join(max(0.0, timeout_seconds))
    if not answers:
        raise TimeoutError(f"the name was not resolved within {timeout_seconds:.0f} s")
    (answer,) = answers
    if isinstance(answer, OSError) or not answer:
        raise OSError("the name cannot be resolved")
    return [_parse_address(text) for text in answer]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _parse_address(text: str) -> Address:
    """Parse an address without its zone (fe80::1%eth0): an address with a zone is link-local in any case."""
    return ipaddress.ip_address(text.partition("%")[0])
