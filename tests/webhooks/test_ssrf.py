"""Where webhooks may go: a table of hostile URLs and what names may resolve to."""

from __future__ import annotations

import threading

import pytest

from errors import WebhookUrlRefused
from tests.support.tables import each
from webhooks import ssrf as webhook_address
from webhooks.ssrf import AddressPolicy, is_public, parse_url, resolve_addresses

STRICT = AddressPolicy()
OPEN = AddressPolicy(allow_http=True, allow_private=True)

# Refused with every setting at its default.
HOSTILE = {
    "http": "http://example.com/",
    "file": "file:///etc/passwd",
    "ftp": "ftp://example.com/",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript": "javascript:alert(1)",
    "data": "data:text/plain,hello",
    "unix": "unix:///var/run/docker.sock",
    "no scheme": "example.com/hook",
    "scheme-relative": "//example.com/hook",
    "no slashes": "https:example.com",
    "no host": "https:///hook",
    "empty": "",
    "port only": "https://:443/",
    "loopback": "https://127.0.0.1/",
    "loopback, other": "https://127.8.9.1/",
    "loopback, trailing dot": "https://127.0.0.1./",
    "loopback, short": "https://127.1/",
    "loopback, decimal": "https://2130706433/",
    "loopback, hex": "https://0x7f000001/",
    "loopback, hex parts": "https://0x7f.0.0.0x1/",
    "loopback, octal": "https://0177.0.0.1/",
    "loopback, octal whole": "https://017700000001/",
    "loopback, padded": "https://127.000.000.001/",
    "loopback, percent-encoded": "https://%31%32%37.0.0.1/",
    "loopback, full width": "https://１２７.0.0.1/",
    "loopback, circled": "https://①②⑦.⓪.⓪.①/",
    "loopback, ideographic stops": "https://127。0。0。1/",
    "overflowing octet": "https://256.256.256.256/",
    "five parts": "https://1.2.3.4.5/",
    "bare hex prefix": "https://0x/",
    "unspecified": "https://0.0.0.0/",
    "zero": "https://0/",
    "private 10": "https://10.0.0.1/",
    "private 172": "https://172.16.5.4/",
    "private 192": "https://192.168.1.1/",
    "shared": "https://100.64.0.1/",
    "link-local": "https://169.254.1.1/",
    "metadata": "https://169.254.169.254/latest/meta-data/",
    "metadata, decimal": "https://2852039166/",
    "metadata, mapped": "https://[::ffff:169.254.169.254]/",
    "metadata, Alibaba": "https://100.100.100.200/",
    "metadata, Azure": "https://168.63.129.16/",
    "metadata, Oracle": "https://192.0.0.192/",
    "metadata, EC2 over IPv6": "https://[fd00:ec2::254]/",
    "metadata, Google's name": "https://metadata.google.internal/computeMetadata/v1/",
    "documentation": "https://192.0.2.1/",
    "documentation 2": "https://198.51.100.7/",
    "documentation 3": "https://203.0.113.7/",
    "benchmarks": "https://198.18.0.1/",
    "6to4 relay": "https://192.88.99.1/",
    "multicast": "https://224.0.0.1/",
    "reserved": "https://240.0.0.1/",
    "broadcast": "https://255.255.255.255/",
    "v6 loopback": "https://[::1]/",
    "v6 loopback, long": "https://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "v6 unspecified": "https://[::]/",
    "v6 mapped": "https://[::ffff:127.0.0.1]/",
    "v6 mapped, hex": "https://[::ffff:7f00:1]/",
    "v6 compatible": "https://[::127.0.0.1]/",
    "v6 translated": "https://[::ffff:0:127.0.0.1]/",
    "v6 link-local": "https://[fe80::1]/",
    "v6 link-local with zone": "https://[fe80::1%25eth0]/",
    "v6 site-local": "https://[fec0::1]/",
    "v6 unique local": "https://[fc00::1]/",
    "v6 multicast": "https://[ff02::1]/",
    "v6 documentation": "https://[2001:db8::1]/",
    "v6 documentation, new": "https://[3fff::1]/",
    "6to4 of loopback": "https://[2002:7f00:1::]/",
    "6to4 of metadata": "https://[2002:a9fe:a9fe::1]/",
    "Teredo": "https://[2001:0:53aa:64c::1]/",
    "ORCHID": "https://[2001:20::1]/",
    "NAT64 of loopback": "https://[64:ff9b::127.0.0.1]/",
    "NAT64 of private": "https://[64:ff9b::a00:1]/",
    "NAT64, local": "https://[64:ff9b:1::1]/",
    "discard": "https://[100::1]/",
    "segment routing": "https://[5f00::1]/",
    "not closed": "https://[::1/",
    "v6 without brackets": "https://::1/",
    "name in brackets": "https://[localhost]/",
    "future address": "https://[v1.fe80::a]/",
    "localhost": "https://localhost/",
    "localhost, capitals": "https://LOCALHOST/",
    "localhost, dot": "https://localhost./",
    "under localhost": "https://a.localhost/",
    "localhost.localdomain": "https://localhost.localdomain/",
    "single label": "https://valkey_queue/",
    "printer": "https://printer.local/",
    "corporate": "https://wiki.intranet/",
    "home": "https://router.home.arpa/",
    "onion": "https://expyuzz4wqqyqhjn.onion/",
    "user": "https://user@example.com/",
    "user and password": "https://user:secret@example.com/",
    "user that looks like a host": "https://example.com@127.0.0.1/",
    "empty user": "https://@example.com/",
    "backslash": "https://example.com\\@127.0.0.1/",
    "backslashes": "https:\\\\127.0.0.1\\",
    "tab inside": "https://exam\tple.com/",
    "new line": "https://example.com/\r\nX-Injected: 1",
    "space": "https://example.com/a b",
    "leading space": " https://example.com/",
    "NUL": "https://example.com/\x00",
    "DEL": "https://example.com/\x7f",
    "not ASCII": "https://exämple.com/",
    "not ASCII path": "https://example.com/ü",
    "lone surrogate": "https://example.com/\ud800",
    "fragment": "https://example.com/#x",
    "fragment before user": "https://example.com#@127.0.0.1/",
    "empty label": "https://example..com/",
    "leading dot": "https://.example.com/",
    "hyphen first": "https://-example.com/",
    "long label": f"https://{'a' * 64}.com/",
    "long name": f"https://{'a.' * 130}com/",
    "long URL": f"https://example.com/{'a' * 2_048}",
    "port 0": "https://example.com:0/",
    "port 22": "https://example.com:22/",
    "port 25": "https://example.com:25/",
    "port 6379": "https://example.com:6379/",
    "port 5432": "https://example.com:5432/",
    "port 11211": "https://example.com:11211/",
    "port too large": "https://example.com:65536/",
    "port negative": "https://example.com:-1/",
    "port not a number": "https://example.com:https/",
    "port empty": "https://example.com:/",
    "two ports": "https://example.com:443:80/",
}

GOOD = {
    "https://example.com": ("example.com", 443, "/"),
    "https://EXAMPLE.com/Hook?a=%20b&c": ("example.com", 443, "/Hook?a=%20b&c"),
    "https://example.com.:8443/x": ("example.com", 8443, "/x"),
    "https://example.com:80/": ("example.com", 80, "/"),
    "https://xn--exmple-cua.com/": ("xn--exmple-cua.com", 443, "/"),
    "https://a_b.example.com/": ("a_b.example.com", 443, "/"),
    "https://93.184.216.34/": ("93.184.216.34", 443, "/"),
    "https://[2606:4700:4700::1111]/": ("2606:4700:4700::1111", 443, "/"),
    "https://[64:ff9b::8.8.8.8]/": ("64:ff9b::8.8.8.8", 443, "/"),
    "https://example.com?x": ("example.com", 443, "/?x"),
}


@each("url", HOSTILE)
def test_a_hostile_url_is_refused_before_any_name_is_resolved(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: pytest.fail("resolved"))
    with pytest.raises(WebhookUrlRefused):
        parse_url(url, STRICT)


@each("url, parts", GOOD.items())
def test_a_valid_url_is_parsed(url: str, parts: tuple[str, int, str]) -> None:
    target = parse_url(url, STRICT)
    assert (target.host, target.port, target.path) == parts


def test_the_host_header_has_brackets_and_a_port_where_it_needs_them() -> None:
    assert parse_url("https://example.com:443/", STRICT).authority == "example.com"
    assert parse_url("https://example.com:8443/", STRICT).authority == "example.com:8443"
    assert parse_url("https://[2606:4700::1]:8443/", STRICT).authority == "[2606:4700::1]:8443"


# Addresses to which a harmless name may resolve. Each is refused.
RESOLVED = [
    *("127.0.0.1", "10.1.2.3", "169.254.169.254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.251"),
    *("::1", "::ffff:10.0.0.1", "fe80::1%eth0", "fd00::1", "2002:a00:1::", "64:ff9b::a9fe:a9fe", "2001:db8::1"),
]


@each("address", list(RESOLVED))
def test_a_name_of_a_private_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = parse_url("https://rebind.example.com/", STRICT)
    for answer in ([address], ["93.184.216.34", address]):  # one bad address is enough
        monkeypatch.setattr(webhook_address, "lookup", lambda *_, answer=answer: answer)
        with pytest.raises(WebhookUrlRefused):
            resolve_addresses(target, STRICT, timeout_seconds=1)


def test_a_public_name_gives_its_addresses_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: ["2606:4700::1", "93.184.216.34", "93.184.216.34"])
    target = parse_url("https://example.com/", STRICT)
    assert resolve_addresses(target, STRICT, timeout_seconds=1) == ["2606:4700::1", "93.184.216.34"]


def test_a_hanging_resolver_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: answer.wait(60))
    with pytest.raises(TimeoutError):
        resolve_addresses(parse_url("https://example.com/", STRICT), STRICT, timeout_seconds=0.1)
    assert not answer.is_set()
    answer.set()


@pytest.mark.parametrize("failure", [OSError("no such name"), UnicodeError("label too long")])
def test_a_name_that_does_not_resolve_is_an_error_of_the_network(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[str]:
        raise failure

    monkeypatch.setattr(webhook_address, "lookup", fail)
    with pytest.raises(OSError, match="cannot be resolved"):
        resolve_addresses(parse_url("https://example.com/", STRICT), STRICT, timeout_seconds=1)


INTRANET = ["http://127.0.0.1:9000/", "http://[::1]:9000/", "https://10.0.0.5/", "http://localhost/", "http://hooks/"]
NEVER = [
    *("http://169.254.169.254/", "http://100.100.100.200/", "http://168.63.129.16/", "http://[fd00:ec2::254]/"),
    *("http://0.0.0.0/", "http://[fe80::1]/", "http://2130706433/", "http://user@127.0.0.1/", "http://127.0.0.1:6379/"),
    *("http://224.0.0.1/", "http://[::ffff:127.0.0.1]/", "ftp://127.0.0.1/"),
]


@each("url", list(INTRANET))
def test_private_networks_can_be_allowed(url: str) -> None:
    parse_url(url, OPEN)
    with pytest.raises(WebhookUrlRefused):
        parse_url(url, STRICT)


@each("url", list(NEVER))
def test_some_urls_are_refused_under_every_policy(url: str) -> None:
    with pytest.raises(WebhookUrlRefused):
        parse_url(url, OPEN)


def test_allowing_http_does_not_allow_private_addresses() -> None:
    policy = AddressPolicy(allow_http=True)
    assert parse_url("http://example.com/", policy).port == 80
    with pytest.raises(WebhookUrlRefused):
        parse_url("http://127.0.0.1/", policy)


def test_addresses_at_the_edges_of_networks_are_classified() -> None:
    for inside, outside in {
        "100.127.255.255": "100.128.0.0",
        "172.31.255.255": "172.32.0.0",
        "198.19.255.255": "198.20.0.0",
        "2001:1ff:ffff::": "2001:200::",
        "2002:ffff::": "2003::",
        "4000::": "3ffe::",
        "1fff::": "2000::",
    }.items():
        assert not is_public(webhook_address._parse_address(inside)), inside
        assert is_public(webhook_address._parse_address(outside)), outside
