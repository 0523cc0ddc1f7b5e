"""Certificates as deploy/certificates.sh makes them, and TLS in front of a server that has none."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.processes import ROOT
from tests.support.servers import missing


def make_certificates(folder: Path) -> Path:
    """Make a certificate authority, and certificates of valkey and qdrant that are good for localhost, too."""
    if shutil.which("openssl") is None:
        missing("openssl")
    subprocess.run(["/bin/sh", ROOT / "deploy" / "certificates.sh", folder], check=True, capture_output=True)
    return folder


@contextmanager
def tls_in_front(port: int, certificates: Path, *, name: str, host: str = "127.0.0.1") -> Iterator[int]:
    """Take TLS connections with the certificate of `name` and hand what they say to a local port; yield the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(_serve(port, context, host), loop).result(10)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _serve(port: int, context: ssl.SSLContext, host: str) -> asyncio.Server:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.wait(
                [asyncio.ensure_future(_pump(reader, to_server)), asyncio.ensure_future(_pump(from_server, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        to_server.close()
        writer.close()

    return await asyncio.start_server(handle, host, 0, ssl=context)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
