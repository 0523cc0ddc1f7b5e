"""The clients of a run: they ask and upload until they are acknowledged, and follow each job in one of seven ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from bench.chaos import documents
from bench.chaos.calls import POLL_SECONDS, RETRY_SECONDS, Calls, http_session, until
from bench.chaos.openai_clients import OpenAIClients
from bench.chaos.parts import Service
from bench.chaos.sightings import Ended, Sightings

BY_OPENAI = ("response", "completion", "conversation")
KINDS = ("wait", "watch", "poll", "webhook", *BY_OPENAI)
# Each so many uploads one comes by OpenAI's API, into a vector store; every second of these in a batch.
UPLOADS_OF_A_STORE = 3
TURNS = 3  # of a conversation
WAIT_SECONDS = 20
# After the last question a job is lost when none has ended for this time. A webhook has so long to come.
MAX_END_SECONDS = 90.0
TERMINAL = {"finished", "failed", "cancelled"}


class Clients:
    """All clients of one service."""

    def __init__(self, service: Service, calls: Calls, seen: Sightings, *, seed: int) -> None:
        self._service = service
        self._calls = calls
        self._seed = seed
        self._ready: list[int] = []  # the documents that questions may be about
        self._webhook_url = ""
        self._openai = OpenAIClients(service.api_url, seen)
        self.seen = seen

    async def prepare(self) -> None:
        """Index the first document, which questions are about until others are ready."""
        async with asyncio.timeout(MAX_END_SECONDS):
            await self._upload(0)
        if not self._ready:
            raise RuntimeError(f"the first document was not indexed: {self.seen.states}")

    async def send(self, *, questions: int, uploads: int, seconds: float) -> None:
        """Send everything, evenly over so many seconds; return when each job has ended or is lost."""
        began = time.monotonic()

        async def at(delay: float, work: Coroutine[Any, Any, None]) -> None:
            await asyncio.sleep(max(0.0, began + delay - time.monotonic()))
            await work

        tasks = [asyncio.create_task(at(seconds * n / questions, self._ask(n))) for n in range(questions)]
        tasks += [asyncio.create_task(at(seconds * n / uploads, self._upload(n))) for n in range(1, uploads)]
        _, late = await asyncio.wait(tasks, timeout=seconds)
        ended = -1
        while late and ended < len(self.seen.ended):
            ended = len(self.seen.ended)
            _, late = await asyncio.wait(late, timeout=MAX_END_SECONDS)
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def check(self) -> None:
        """Read the end of each job again, wait for missing webhooks, and ask about each document that is ready."""
        for job_id in self.seen.acknowledged:
            by_openai = self.seen.jobs.get(job_id) in BY_OPENAI
            await (self._openai.read(job_id) if by_openai else self._read_result(job_id))
        await asyncio.gather(*(self._find(document) for document in self._ready))
        question_of = {documents.name(one): documents.question(one, 2_000_000 + one) for one in self._ready}
        for store_id in self.seen.complete_stores:
            await self._openai.check_store(store_id, question_of)
        await self._openai.check_conversations()
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_END_SECONDS):
                await until(lambda: not self.seen.without_webhook)

    async def _ask(self, number: int) -> None:
        """Ask a question, and follow it as a client of its kind."""
        kind = KINDS[number % len(KINDS)]
        question = documents.question(self._ready[number % len(self._ready)], number)
        if kind in BY_OPENAI:
            await self._ask_by_openai(kind, question, number)
            return
        body = {"query": question}
        if kind == "webhook":
            body["webhook_url"] = self._webhook_url
        accepted = await self._calls.post_until_accepted("/chat", f"question-{number}", body=body)
        job_id = str(accepted["job_id"])
        self.seen.jobs[job_id] = kind
        await {"wait": self._wait, "watch": self._watch, "poll": self._poll, "webhook": self._expect}[kind](job_id)

    async def _ask_by_openai(self, kind: str, question: str, number: int) -> None:
        if kind == "response":
            await self._openai.ask(question)
        elif kind == "completion":
            await self._openai.complete(question)
        else:
            await self._openai.converse(question, number // (TURNS * len(KINDS)))

    async def _wait(self, job_id: str) -> None:
        while job_id not in self.seen.ended:
            if await self._read_result(job_id, f"?wait={WAIT_SECONDS}") != 202:
                await asyncio.sleep(RETRY_SECONDS)

    async def _poll(self, job_id: str) -> None:
        while job_id not in self.seen.ended:
            await asyncio.sleep(POLL_SECONDS)
            _, body = await self._calls.get(f"/job-status/{job_id}")
            if body.get("status") in TERMINAL:
                await self._read_result(job_id)

    async def _watch(self, job_id: str) -> None:
        async for kind, data in self._calls.watch(job_id):
            if kind in TERMINAL:
                self.seen.note_end(job_id, Ended.of_result(data))

    async def _expect(self, job_id: str) -> None:
        """Wait for the webhook, which notes the end."""
        await until(lambda: job_id in self.seen.ended)

    async def _read_result(self, job_id: str, parameters: str = "") -> int:
        """Read the result of a job, and note it if the job has ended. Returns the status of the answer."""
        status, body = await self._calls.get(f"/result/{job_id}{parameters}")
        if status == 200:
            self.seen.note_end(job_id, Ended.of_result(body))
        elif status in {404, 410}:
            self.seen.vanished.add(job_id)
        return status

    async def _upload(self, number: int) -> None:
        """Upload a document, and poll until it is indexed."""
        path = await asyncio.to_thread(documents.write_document, self._service.folder, number, self._seed)
        if number % UPLOADS_OF_A_STORE == 1:
            upload_id = await self._openai.upload(path, by_batch=number % (2 * UPLOADS_OF_A_STORE) == 1)
        else:
            accepted = await self._calls.post_until_accepted("/uploads", f"upload-{number}", file=path)
            upload_id = str(accepted["upload_id"])
            self.seen.uploads[upload_id] = str(accepted["job_id"])
        state = ""
        while state not in {"ready", "failed"}:
            await asyncio.sleep(POLL_SECONDS)
            _, body = await self._calls.get(f"/uploads/{upload_id}")
            state = str(body.get("status", state))
            if body.get("job_id"):
                self.seen.uploads.setdefault(upload_id, str(body["job_id"]))
        self.seen.states[upload_id] = state
        if state == "ready":
            self._ready.append(number)
        await self._wait(self.seen.uploads[upload_id])

    async def _find(self, document: int) -> None:
        """Ask about a document that is ready: its chunks must be there, all the more now that nothing is killed."""
        query = {"query": documents.question(document, 1_000_000 + document)}
        job_id = str((await self._calls.post_until_accepted("/chat", f"find-{document}", body=query))["job_id"])
        status, body = await self._calls.get(f"/result/{job_id}?wait={WAIT_SECONDS}")
        while status != 200:
            status, body = await self._calls.get(f"/result/{job_id}?wait={WAIT_SECONDS}")
        name = documents.name(document)
        if not any(source["name"] == name for source in body.get("sources") or []):
            self.seen.not_found.append(f"{name}: {body.get('result') or body.get('error')}")

    async def close(self) -> None:
        """Close the connections of OpenAI's client."""
        await self._openai.close()

    async def receive(self, request: web.Request) -> web.Response:
        """Receive a webhook."""
        data = (await request.json())["data"]
        job_id = str(data["job_id"])
        self.seen.webhooks[job_id] += 1
        self.seen.note_end(job_id, Ended.of_webhook(data))
        return web.Response(status=204)

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Receive webhooks within the block."""
        app = web.Application()
        app.router.add_post("/hook", self.receive)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self._webhook_url = f"http://{host}:{port}/hook"
        try:
            yield
        finally:
            await runner.cleanup()


@asynccontextmanager
async def open_clients(service: Service, *, seed: int) -> AsyncIterator[Clients]:
    """Open the clients of a service, and their receiver of webhooks."""
    seen = Sightings()
    async with http_session() as http:
        clients = Clients(service, Calls(service, http, seen.outages), seen, seed=seed)
        async with clients.receiving():
            try:
                yield clients
            finally:
                await clients.close()
