"""Sending one webhook to a real server: signed, pinned to the address that was checked, bounded in time and size."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.webhook_receiver import Receiver, receiving
from webhooks import sender as webhook_sender
from webhooks import ssrf as webhook_address
from webhooks.sender import Outcome, new_secret, send, signed_headers
from webhooks.ssrf import AddressPolicy

OPEN = AddressPolicy(allow_http=True, allow_private=True)
SECRET = new_secret()
BODY = '{"type":"job.finished","data":{"result":"grün"}}'.encode()
NAME = "hooks.example.test"


def post(url: str, *, policy: AddressPolicy = OPEN, timeout_seconds: float = 5.0) -> Outcome:
    headers = signed_headers(SECRET, message_id="msg_1", timestamp=int(time.time()), body=BODY)
    return send(url, BODY, headers, policy=policy, timeout_seconds=timeout_seconds)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def test_the_official_library_verifies_the_signature_and_rejects_changes(receiver: Receiver) -> None:
    assert post(f"{receiver.url}/hook?a=1").delivered
    (got,) = receiver.received
    assert got.path == "/hook?a=1"
    assert got.verify(SECRET)["data"] == {"result": "grün"}
    with pytest.raises(WebhookVerificationError):
        got.verify(new_secret())
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body + b" ", got.headers)


def test_a_secret_has_at_least_24_random_bytes() -> None:
    assert new_secret() != SECRET
    assert SECRET.startswith("whsec_")
    assert 24 <= len(Webhook(SECRET)._whsecret) <= 64


def test_only_the_headers_of_the_specification_are_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No proxy, .netrc, cookie or key of the environment is used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NETRC", str(netrc))
    assert post(receiver.url).delivered
    assert set(receiver.received[0].headers) == {
        *("host", "user-agent", "content-type", "content-length", "accept", "connection"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    }
    assert receiver.received[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int, receiver: Receiver) -> None:
    receiver.answer = lambda _: (status, {"location": f"{receiver.url}/elsewhere"})
    outcome = post(receiver.url)
    assert (outcome.status, outcome.delivered) == (status, False)
    assert [got.path for got in receiver.received] == ["/"]


@pytest.mark.parametrize(("status", "delivered"), [(200, True), (202, True), (299, True), (400, False), (503, False)])
def test_only_a_2xx_is_a_success(*, status: int, delivered: bool, receiver: Receiver) -> None:
    receiver.answer = lambda _: (status, {"retry-after": "120"})
    outcome = post(receiver.url)
    assert (outcome.status, outcome.delivered, outcome.retry_after_seconds) == (status, delivered, 120)


def trickle_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(10_000):
        request.wfile.write(b"x-%d: 1\r\n" % n)
        time.sleep(0.02)


def trickle_body(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    for _ in range(10_000):
        request.wfile.write(b"x")
        time.sleep(0.02)


def silent(_request: BaseHTTPRequestHandler) -> None:
    time.sleep(2)  # in a thread that nobody waits for


@pytest.mark.parametrize("handle", [trickle_headers, trickle_body, silent])
def test_a_slow_receiver_is_cut_off_at_the_time_limit(handle: object, receiver: Receiver) -> None:
    receiver.handle = handle  # type: ignore[assignment]
    outcome = post(receiver.url, timeout_seconds=0.5)
    assert outcome.error == "no answer within 0.5 s"


def test_an_endless_answer_is_not_read_to_its_end(receiver: Receiver) -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 1 << 30:
            sent += request.wfile.write(b"x" * 65_536)

    receiver.handle = endless
    assert post(receiver.url).delivered
    assert sent < 64 << 20


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200", b"\x00" * 100])
def test_a_response_that_is_not_http_is_a_failed_attempt(answer: bytes, receiver: Receiver) -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(answer)
        request.close_connection = True

    receiver.handle = handle
    outcome = post(receiver.url)
    assert outcome.status is None
    assert outcome.error


def test_a_closed_port_is_a_failed_attempt(receiver: Receiver) -> None:
    with receiving() as other:
        url = other.url
    assert post(url).error == "the connection was refused"
    assert not receiver.received


def test_the_connection_goes_to_the_address_that_was_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves differently each time (DNS rebinding) is resolved once."""
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: next(answers))
    assert post(f"http://rebind.example.com:{receiver.port}/").delivered
    assert receiver.received[0].headers["host"] == f"rebind.example.com:{receiver.port}"
    assert "not public" in str(post(f"http://rebind.example.com:{receiver.port}/").error)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_no_connection_is_made_to_a_name_of_this_machine(
    address: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: [address])
    outcome = post(f"http://evil.example.com:{receiver.port}/", policy=AddressPolicy(allow_http=True))
    assert str(outcome.error).startswith("refused: the URL leads to an address that is not public")
    assert not receiver.received


def test_the_next_address_is_tried_when_one_refuses_the_connection(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: ["127.0.0.2", "127.0.0.1"])
    assert post(f"http://two.example.com:{receiver.port}/").delivered


def test_a_name_that_does_not_resolve_is_a_failed_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[str]:
        raise OSError("no such name")

    monkeypatch.setattr(webhook_address, "lookup", fail)
    assert post("http://gone.example.com/").error == "the name cannot be resolved"


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """A certificate for NAME that this process trusts through SSL_CERT_FILE."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    webhook_sender._tls_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    yield context
    webhook_sender._tls_context.cache_clear()


def test_the_certificate_is_checked_against_the_name_not_the_address(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    certificate.sni_callback = lambda _socket, name, _context: asked.append(name)
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: ["127.0.0.1"])
    with receiving(certificate=certificate) as receiver:
        assert post(f"https://{NAME}:{receiver.port}/").delivered
        assert receiver.received[0].headers["host"] == f"{NAME}:{receiver.port}"
        refused = post(f"https://other.example.test:{receiver.port}/")
        assert "certificate was not accepted" in str(refused.error)
        assert asked == [NAME, "other.example.test"]
        assert len(receiver.received) == 1


def test_a_certificate_of_an_unknown_authority_is_refused(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setattr(webhook_address, "lookup", lambda *_: ["127.0.0.1"])
    with receiving(certificate=certificate) as receiver:
        assert "certificate was not accepted" in str(post(f"https://{NAME}:{receiver.port}/").error)
        assert not receiver.received
