"""Where a webhook may go: nowhere but to public HTTP servers, unless the settings say otherwise.

A URL comes from a stranger and makes this service send a request. So it is read strictly, its name is resolved once,
every address it has must be allowed, and the request then goes to exactly such an address: a name that means something
else a moment later (DNS rebinding) gains nothing.
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
# Services that are no web servers: from the port list of the Fetch standard, and the usual stores and brokers.
SERVICE_PORTS: Final = (
    {1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432}
    | {5672, 5900, 6000, 6333, 6334, 6379, 6380, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092, 9200}
    | {10080, 10250, 11211, 27017}
)
# Names that mean this machine or this network, whatever a resolver says (RFC 6761, 6762, 8375, and clouds).
LOCAL_SUFFIXES: Final = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa", "onion")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
_NUMBER = r"(?:\d+|0x[0-9a-f]*)"

# IANA's special-purpose registries: what is not reachable from everywhere. Written out because the meaning of
# ipaddress.is_global differs between Python's patch releases.
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
# Where clouds hand out credentials. Most are link-local and refused as such; these hide among other addresses.
_METADATA = ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What the operator allows beyond public https servers."""

    allow_http: bool = False
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL. `host` is a lower-case name or an address without brackets, `path` starts with a slash."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header: host and, unless it is the scheme's own, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTP_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str, policy: AddressPolicy) -> Target:
    """Check all of a URL that can be checked without a network. Raises WebhookUrlRefused."""
    if len(url) > MAX_URL_CHARS:
        raise WebhookUrlRefused(f"is longer than {MAX_URL_CHARS} characters")
    if not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
        raise WebhookUrlRefused("must be plain ASCII: percent-encode the path, write the host as xn--...")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise WebhookUrlRefused("is no valid URL") from None
    scheme = parts.scheme
    if scheme not in HTTP_PORTS or (scheme == "http" and not policy.allow_http):
        raise WebhookUrlRefused("must start with https://")
    if "@" in parts.netloc:
        raise WebhookUrlRefused("must not hold a user name or password")
    if "#" in url:
        raise WebhookUrlRefused("must not have a #fragment")
    if parts.netloc.endswith(":"):
        raise WebhookUrlRefused("is no valid URL")
    host = _host(parts.hostname or "", bracketed="[" in parts.netloc, policy=policy)
    port = HTTP_PORTS[scheme] if port is None else port
    if port not in HTTP_PORTS.values() and (port < FIRST_FREE_PORT or port in SERVICE_PORTS):
        raise WebhookUrlRefused("names a port that is not for the web: use 443, or one from 1024 up")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=scheme, host=host, port=port, path=path)


def addresses_of(target: Target, policy: AddressPolicy, *, timeout_seconds: float) -> list[str]:
    """Resolve the host of a target and return its addresses, each of them allowed.

    Raises WebhookUrlRefused when one is not allowed, OSError when the name cannot be resolved in time.
    """
    found = [_address(target.host)] if _is_address(target.host) else _resolve(target, timeout_seconds)
    for address in found:
        if not _is_allowed(address, policy):
            raise WebhookUrlRefused("leads to an address that is not public")
    return [str(address) for address in dict.fromkeys(found)]


def lookup(host: str, port: int) -> list[str]:
    """Ask the system's resolver for the addresses of a name. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def is_public(address: Address) -> bool:
    """Tell whether an address is reachable from everywhere and belongs to somebody."""
    if isinstance(address, IPv6Address):
        if address in IPv6Network(_NAT64):
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        return address in IPv6Network(_PUBLIC_V6) and not any(address in IPv6Network(net) for net in _NOT_PUBLIC_V6)
    return not any(address in IPv4Network(net) for net in _NOT_PUBLIC_V4) and str(address) not in _METADATA


def _host(host: str, *, bracketed: bool, policy: AddressPolicy) -> str:
    """Check a host, and an address in it at once."""
    if bracketed or ":" in host:
        if not _is_address(host) or "%" in host:
            raise WebhookUrlRefused("holds no valid address")
    else:
        host = host.removesuffix(".")
        _check_name(host, policy)
    if _is_address(host) and not _is_allowed(_address(host), policy):
        raise WebhookUrlRefused("leads to an address that is not public")
    return host


def _check_name(host: str, policy: AddressPolicy) -> None:
    if len(host) > MAX_NAME_CHARS or not re.fullmatch(_NAME, host):
        raise WebhookUrlRefused("has no valid host")
    if re.fullmatch(_NUMBER, host.rpartition(".")[2]):
        # A resolver would read 2130706433, 0x7f.1 and 0177.0.0.1 all as 127.0.0.1.
        if not _is_address(host):
            raise WebhookUrlRefused("must write an address as four decimal numbers")
        return
    local = "." not in host or any(host == suffix or host.endswith(f".{suffix}") for suffix in LOCAL_SUFFIXES)
    if local and not policy.allow_private:
        raise WebhookUrlRefused("names a host of the local network")


def _is_allowed(address: Address, policy: AddressPolicy) -> bool:
    if is_public(address):
        return True
    if not policy.allow_private or str(address) in _METADATA:
        return False
    return any(address in ipaddress.ip_network(net) for net in _PRIVATE)


def _resolve(target: Target, timeout_seconds: float) -> list[Address]:
    """Look the name up in a thread that can be left behind: a resolver takes no time limit."""
    answers: list[list[str] | OSError] = []

    def ask() -> None:
        try:
            answers.append(lookup(target.host, target.port))
        except (OSError, UnicodeError) as error:
            answers.append(OSError(str(error)))

    thread = threading.Thread(target=ask, name="webhook-dns", daemon=True)
    thread.start()
    thread.join(max(0.0, timeout_seconds))
    if not answers:
        raise TimeoutError(f"the name was not resolved within {timeout_seconds:.0f} s")
    (answer,) = answers
    if isinstance(answer, OSError) or not answer:
        raise OSError("the name cannot be resolved")
    return [_address(text) for text in answer]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address(text: str) -> Address:
    """Read an address. One with a zone (fe80::1%eth0) is link-local: the zone does not matter here."""
    return ipaddress.ip_address(text.partition("%")[0])
