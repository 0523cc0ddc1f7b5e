"""Calls of the API that count each outage they meet."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from bench.chaos.parts import Service

CALL_SECONDS = 35.0
# A thousand clients that wait for an outage to end would otherwise keep this process and the API busy.
RETRY_SECONDS = 0.5
POLL_SECONDS = 0.5
LOOK_SECONDS = 0.02
UNREACHABLE = 0  # in place of a status
BEFORE_FIRST_ID = "0-0"
# These are no outages: a client is told to wait, or that nothing comes any more.
_EXPECTED = {200, 202, 204}


class Calls:
    """Calls of one API. `outages` counts what was met, by name; `answers` the statuses that are none."""

    def __init__(self, service: Service, http: aiohttp.ClientSession, outages: Counter[str]) -> None:
        self._service = service
        self._http = http
        self._outages = outages

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await self._call("GET", path)

    async def post_until_accepted(
        self, path: str, key: str, *, body: Mapping[str, object] | None = None, file: Path | None = None
    ) -> dict[str, Any]:
        """POST under an Idempotency-Key until the answer is 202; return its body."""
        while True:
            form = None if file is None else aiohttp.FormData({"file": file.open("rb")})
            status, answer = await self._call("POST", path, json=body, data=form, headers={"Idempotency-Key": key})
            if status == 202:
                return answer
            await asyncio.sleep(RETRY_SECONDS)

    async def watch(self, job_id: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield type and data of the events of a job, up to its end; opens the stream again whenever it is cut."""
        last_id = BEFORE_FIRST_ID
        while True:
            opened = time.time()
            try:
                async for last_id, kind, data in self._events(job_id, last_id):  # noqa: B020  a place in the stream
                    yield kind, data
                    if last_id == "end":
                        return
            except _Refused:
                pass
            except (aiohttp.ClientError, TimeoutError, OSError):
                self._count_cut("cut", opened)
            else:
                self._count_cut("cut", opened)
            await asyncio.sleep(RETRY_SECONDS)

    async def _events(self, job_id: str, last_id: str) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
        """Yield id, type and data of the events after an id, until the stream ends. Raises as aiohttp does."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
        url = f"{self._service.api_url}/jobs/{job_id}/events"
        opened = time.time()
        try:
            response = await self._http.get(url, headers={"Last-Event-ID": last_id}, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count_unreachable("GET", opened)
            raise _Refused from error
        async with response:
            if response.status != 200:
                self._count_status("a stream", response.status)
                raise _Refused
            event: dict[str, str] = {}
            async for line in response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif "event" in event:
                    yield event.get("id", last_id), event["event"], json.loads(event["data"])
                    event = {}

    async def _call(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Return the status and the body; UNREACHABLE and {} without an answer."""
        began = time.time()
        try:
            async with self._http.request(method, self._service.api_url + path, **options) as response:
                self._count_status(method, response.status)
                return response.status, await response.json(content_type=None) or {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            self._count_unreachable(method, began)
            return UNREACHABLE, {}

    def _count_status(self, what: str, status: int) -> None:
        if status not in _EXPECTED:
            self._outages[f"{status} to {what}"] += 1

    def _count_unreachable(self, what: str, since: float) -> None:
        self._count_cut(f"no answer to {what}", since)

    def _count_cut(self, what: str, since: float) -> None:
        """Count what no API could have prevented, because it was killed itself, apart from the rest."""
        down = self._service.api_was_down(since - 1.0, time.time())
        self._outages[f"{what}, the API was killed" if down else what] += 1


class _Refused(Exception):
    """The stream was not opened; counted already."""


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  the condition is of another process
        await asyncio.sleep(LOOK_SECONDS)


def http_session() -> aiohttp.ClientSession:
    """Return a session without a limit of connections."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=CALL_SECONDS))
