"""Carries out the steps of a plan, and writes down what happened when."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from bench.chaos.calls import until
from bench.chaos.parts import Part, Service, ValkeyServer, wait_for_answer
from bench.chaos.plan import Step

# How a crash can leave the end of Valkey's file: in the middle of a command, or of a transaction.
UNFINISHED = (
    b"*3\r\n$3\r\nSET\r\n$9\r\nunfinish",
    b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
)
BUSY_SECONDS = 20.0


class Killer:
    """Steps on one service. `done` counts the parts of the plan that happened."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._moments = service.moments
        self.done: Counter[str] = Counter()

    async def run(self, steps: Iterable[Step]) -> None:
        """Carry out each step at its time, also while earlier steps last. A step waits while its part is down."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                await asyncio.sleep(max(0.0, began + step.at - time.monotonic()))
                tasks.create_task(self._do(step))

    async def _do(self, step: Step) -> None:
        await getattr(self, f"_{step.part}")(step)
        self.done[step.part] += 1

    async def _worker(self, step: Step) -> None:
        worker = self._free_worker(step)
        if not self.done["worker"]:  # a short run has few jobs, and the first kill shall meet one
            await self._wait_for_job(worker)
        async with worker.lock:
            await self._kill(worker, step.seconds)

    async def _both(self, step: Step) -> None:
        worker, valkey = self._free_worker(step), self._server
        async with worker.lock, valkey.lock:
            await asyncio.to_thread(valkey.kill)
            await self._kill(worker, step.seconds)
            valkey.held = False

    async def _api(self, step: Step) -> None:
        await self._kill_server(self._service.api, step, f"{self._service.api_url}/health")

    async def _qdrant(self, step: Step) -> None:
        await self._kill_server(self._service.qdrant, step, f"{self._service.qdrant_url}/collections")

    async def _tree(self, step: Step) -> None:
        await self._kill_server(self._service.tree, step, f"{self._service.api_url}/health")

    async def _valkey(self, step: Step) -> None:
        await self._kill_valkey(step)

    async def _kill_valkey(self, step: Step, unfinished: bytes = b"") -> None:
        async with self._server.lock:
            await asyncio.to_thread(self._server.kill)
            await asyncio.sleep(step.seconds)
            if unfinished:
                self._server.tear_file(unfinished)
            self._server.held = False

    async def _torn(self, step: Step) -> None:
        await self._kill_valkey(step, UNFINISHED[self.done["torn"] % len(UNFINISHED)])

    async def _hang(self, step: Step) -> None:
        await self._stop_and_wake(self._service.qdrant, step)

    async def _stop(self, step: Step) -> None:
        await self._stop_and_wake(self._free_worker(step), step)

    async def _disk(self, step: Step) -> None:
        async with self._fault("sync_ms", step.amount):
            await asyncio.sleep(step.seconds)

    async def _full(self, step: Step) -> None:
        async with self._fault("full", 1):
            await asyncio.sleep(step.seconds)

    async def _clock(self, step: Step) -> None:
        async with self._fault("clock_seconds", step.amount):
            await asyncio.sleep(step.seconds)

    @asynccontextmanager
    async def _fault(self, name: str, value: int) -> AsyncIterator[None]:
        faults = self._server.faults
        assert faults is not None
        setattr(faults.now, name, value)
        try:
            yield
        finally:
            setattr(faults.now, name, 0)

    @property
    def _server(self) -> ValkeyServer:
        assert self._service.valkey is not None
        return self._service.valkey

    def _free_worker(self, step: Step) -> Part:
        """Return the worker of a step, or the next one if nothing else happens to that."""
        workers = self._service.workers
        turned = workers[step.worker :] + workers[: step.worker]
        return next((worker for worker in turned if not worker.lock.locked()), turned[0])

    async def _kill_server(self, part: Part | None, step: Step, url: str) -> None:
        """Kill a server, and wait after its start until it answers."""
        assert part is not None
        async with part.lock:
            killed_at = time.time()
            await self._kill(part, step.seconds)
            await asyncio.to_thread(wait_for_answer, url)
            self._moments.down.setdefault(f"{part.name} to its clients", []).append((killed_at, time.time()))

    async def _kill(self, part: Part, seconds: float) -> None:
        """Kill a process, and start it again after so many seconds."""
        pid = part.pid
        killed_at = await asyncio.to_thread(part.end)
        self._moments.killed.append((killed_at, pid))
        await asyncio.sleep(seconds)
        part.start()
        self._moments.down.setdefault(part.name, []).append((killed_at, time.time()))

    async def _stop_and_wake(self, part: Part | None, step: Step) -> None:
        assert part is not None
        async with part.lock:
            now, pid = time.time(), part.pid
            part.send(signal.SIGSTOP)
            await asyncio.sleep(step.seconds)
            part.send(signal.SIGCONT)
            self._moments.stopped.append((now, time.time(), pid, part.name))
            if part is self._service.qdrant:
                self._moments.down.setdefault(f"{part.name} to its clients", []).append((now, time.time()))

    async def _wait_for_job(self, worker: Part) -> None:
        """Wait until the worker has begun a job."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BUSY_SECONDS):
                await until(lambda: f" {worker.pid} " in self._service.begins.read_text())
