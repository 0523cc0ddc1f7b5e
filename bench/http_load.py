"""A small HTTP client for load tests on raw asyncio sockets: a full client would cost more than the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from urllib.parse import urlsplit


class Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]) -> None:
        self.reader = reader
        self._writer = writer
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    @classmethod
    async def open(cls, base_url: str, headers: Mapping[str, str] | None = None) -> Connection:
        """Connect. `headers` go with every request."""
        parts = urlsplit(base_url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port), headers or {})

    async def send(self, method: str, path: str, body: bytes = b"") -> int:
        """Send a request and return the status. Afterwards the headers are read and the body is not."""
        fixed = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{fixed}{self._headers}\r\n".encode() + body)
        await self._writer.drain()
        head = await self.reader.readuntil(b"\r\n\r\n")
        self._length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                self._length = int(line.split(b":")[1])
        return int(head.split(b" ", 2)[1])

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and read the whole answer."""
        return await self.send(method, path, body), await self.rest()

    async def rest(self) -> bytes:
        """Read the body of a response with a Content-Length."""
        return await self.reader.readexactly(self._length)

    async def again(self) -> None:
        """Connect again to the same address."""
        self.close()
        host, port = self._writer.get_extra_info("peername")[:2]
        self.reader, self._writer = await asyncio.open_connection(host, port)

    async def until(self, mark: bytes) -> None:
        """Read a stream until it holds `mark`."""
        seen = b""
        while mark not in seen:
            piece = await self.reader.read(65_536)
            if not piece:
                raise ConnectionError("the stream ended before it was expected to")
            seen = seen[-len(mark) :] + piece

    def close(self) -> None:
        self._writer.close()


async def requests_per_second(base_url: str, path: str, *, connections: int, seconds: float) -> float:
    """Request a path repeatedly on the given number of connections."""
    count = 0
    end = time.monotonic() + seconds

    async def work() -> None:
        nonlocal count
        connection = await Connection.open(base_url)
        while time.monotonic() < end:
            status, _ = await connection.call("GET", path)
            if status >= 400:
                raise RuntimeError(f"{path} answered {status}")
            count += 1
        connection.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return count / seconds
