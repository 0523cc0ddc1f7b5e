"""HTTP to the model provider from coroutines: JSON out, JSON or a stream of bytes back.

Each running event loop has a session of its own, made with its first call, and only the number of streams is shared. A
stream is read at the pace at which its text is passed on: once a stream has run PACE_SECONDS, its socket is left alone
for PACE_SECONDS after each read, twice as long while many streams run. 300 tokens over 3 s then cost about 60 reads, or
30, instead of 300; the rest waits in the kernel.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from yarl import URL

from client.llm.failures import CallTimeout, NoConnection, StatusFailure
from client.llm.provider import CONNECT_TIMEOUT_SECONDS
from settings.version import VERSION

# 2 ms longer than the time between two pieces of an answer that a user sees (rag.answer.token_stream): uvloop's timers
# may end 1 ms early, and a piece that comes early is held until the next read.
PACE_SECONDS = 0.052
# With more streams than this in a process, each is read half as often: for many readers at once, throughput counts.
MANY_STREAMS = 64
KEEPALIVE_SECONDS = 30.0
# How long the end of a response may stay out after the end of its stream; then the connection is closed.
DRAIN_SECONDS = 0.1
# The longest text of an error that is read.
MAX_ERROR_BYTES = 65_536

# The responses that are being read as streams.
_streams: set[aiohttp.ClientResponse] = set()
_sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}


class Endpoint:
    """An address that takes JSON. Safe for threads, loops and forks.

    `settings.environment` has checked the variables of proxies and certificates.
    """

    def __init__(self, url: str, key: str | None) -> None:
        whole = URL(url)
        self._url = whole.with_user(None)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": f"rag-query-api/{VERSION}",
        }
        if whole.user is not None:
            self._headers["Authorization"] = aiohttp.encode_basic_auth(whole.user, whole.password or "")
        elif key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._proxy = _proxy(whole)

    async def post(self, body: dict[str, Any]) -> bytes:
        """Return the body of the response. Raises CallFailure."""
        with _failures():
            response = await self._send(body)
            return await response.read()

    async def get(self) -> bytes:
        """Return the body of the response to a GET. Raises CallFailure."""
        with _failures():
            response = await self._send(None)
            return await response.read()

    async def stream(self, body: dict[str, Any], feed: Callable[[bytes], bool]) -> None:
        """Pass the body of the response to `feed` as it comes, until `feed` returns True. Raises CallFailure."""
        with _failures():
            response = await self._send(body)
            _streams.add(response)
            try:
                await _read_paced(response, feed)
            except BaseException:
                response.close()
                raise
            finally:
                _streams.discard(response)
            response.release()

    async def _send(self, body: dict[str, Any] | None) -> aiohttp.ClientResponse:
        response = await _session().request(
            "GET" if body is None else "POST",
            self._url,
            data=None if body is None else orjson.dumps(body),
            headers=self._headers,
            proxy=self._proxy,
            ssl=self._tls,
            allow_redirects=False,
        )
        if response.status < 300:  # noqa: PLR2004  any 2xx
            return response
        said = await _read_error(response)
        raise StatusFailure(response.status, _json_or_text(said), response.headers)

    @cached_property
    def _tls(self) -> ssl.SSLContext | bool:
        secure = self._url.scheme == "https" or (self._proxy is not None and self._proxy.scheme == "https")
        return _tls_context() if secure else True


async def close_session() -> None:
    """Close the connections of the running loop. A loop that made a call must do this before it ends."""
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session is not None:
        await session.close()


def _session() -> aiohttp.ClientSession:
    """Return the session of the running loop."""
    loop = asyncio.get_running_loop()
    session = _sessions.get(loop)
    if session is None:
        for ended in [other for other in _sessions if other.is_closed()]:
            del _sessions[ended]  # aiohttp warns of a session that was not closed
        session = _sessions[loop] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_SECONDS),
        )
    return session


async def _read_paced(response: aiohttp.ClientResponse, feed: Callable[[bytes], bool]) -> None:
    """Read a stream. Data that comes after a silence is passed on at once, other data one pace late at most."""
    clock = asyncio.get_running_loop().time
    asked_at = float("-inf")
    while data := await response.content.readany():
        pace = PACE_SECONDS if len(_streams) <= MANY_STREAMS else 2 * PACE_SECONDS
        if clock() - asked_at >= pace:  # the first data, or data after a silence
            flows_at = clock() + pace
        if feed(data):
            return await _drain(response)
        if clock() >= flows_at:
            await _leave_alone(response, pace)
        asked_at = clock()
    return None


async def _leave_alone(response: aiohttp.ClientResponse, seconds: float) -> None:
    """Read nothing from the socket for a while: no data wakes the loop, and none is parsed."""
    transport = response.connection and response.connection.transport
    if transport is None:  # the response has ended
        return
    transport.pause_reading()
    try:
        await asyncio.sleep(seconds)
    finally:
        transport.resume_reading()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the end of a response, so that its connection can be used again."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError):
        response.close()


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """Return the beginning of the body of a response that is an error."""
    said = b""
    try:
        while len(said) < MAX_ERROR_BYTES and (data := await response.content.readany()):
            said += data
    except aiohttp.ClientError:  # the status says enough
        pass
    finally:
        response.close()
    return said


@contextmanager
def _failures() -> Iterator[None]:
    """Translate aiohttp's errors to CallFailure."""
    try:
        yield
    except aiohttp.ServerTimeoutError:
        raise CallTimeout from None
    except (aiohttp.ClientError, OSError):
        raise NoConnection from None


def _json_or_text(said: bytes) -> object:
    try:
        return orjson.loads(said)
    except orjson.JSONDecodeError:
        return said.decode(errors="replace")


def _proxy(url: URL) -> URL | None:
    """Return the proxy that the variables HTTP_PROXY, ... set for an address; None if calls go there directly."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.raw_authority.rpartition("@")[2]):
        return None
    return URL(proxy if "://" in proxy else f"http://{proxy}")


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the trust in certificate authorities that httpx has too: SSL_CERT_FILE, SSL_CERT_DIR, or the system's."""
    from httpcore2 import default_ssl_context

    return default_ssl_context()
