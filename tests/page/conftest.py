"""What the tests of the page share: a real Chromium, and a running service with a model of our own behind it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.openai_stub import KEY, Behaviour, openai_stub
from tests.support.processes import PYTHON, Running, descendants, free_port, running, wait_until
from tests.support.servers import missing

ROOT = Path(__file__).parents[2]
HANDBOOK = ROOT / "samples" / "handbook.pdf"
QUESTION = "How long does a full charge take?"
# What a wait may take when other programs have all of the machine.
PATIENCE_MS = 40_000
# What the model writes: both sentences are supported, the third is not, and the fourth cites nothing.
ANSWER = """A full charge takes **three hours and twenty minutes** [1]. The ring turns green when it is full [1].

The lamp was invented by Alessandro Volta in 1799 [1].

Cold weather shortens this. See [the maker](https://maker.example/lamp) ![chart](https://images.example/chart.png)"""


@dataclass(frozen=True)
class Service:
    """A running `python main.py`, with the handbook indexed. `url` ends with a slash."""

    url: str
    client: httpx.Client
    model: Behaviour
    process: Running

    def upload(self, name: str, content: bytes) -> str:
        """Upload a file and wait until it is read; return its id."""
        sent = self.client.post("/uploads", files={"file": (name, content)}).raise_for_status().json()
        if not sent["duplicate"]:
            self.client.get(f"/result/{sent['job_id']}", params={"wait": 30}).raise_for_status()
        return str(sent["upload_id"])

    def is_ready(self) -> bool:
        """Return True if the API answers and a worker listens."""
        try:
            return self.client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def kill_api(self) -> None:
        """Kill the API, as kill -9 does. `python main.py` starts it again."""
        for pid in descendants(self.process.process.pid):
            if b"\0api\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                return
        raise AssertionError("no API runs")


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start the service as a user does, with a model provider of our own."""
    folder = tmp_path_factory.mktemp("page")
    port = free_port()
    with openai_stub() as provider:
        variables = {
            "DATA_DIR": str(folder / "data"),
            "PORT": str(port),
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": KEY,
            "CHAT_MODELS": "other-model",
        }
        provider.behaviour.answer = ANSWER
        with (
            running([PYTHON, "main.py"], folder / "main.log", **variables) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=40) as client,
        ):
            started = Service(f"http://127.0.0.1:{port}/", client, provider.behaviour, process)
            wait_until(started.is_ready, seconds=60, what=lambda: process.output)
            yield started


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The Chromium of this machine. Not for the session: Playwright's loop runs on, and other tests run their own."""
    programs = [found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))]
    if not programs:
        missing("Chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # Root may only start Chromium without its sandbox.
        started = playwright.chromium.launch(executable_path=programs[0], args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Watched:
    """What a browser did that the page must not do. `expected` are parts of console errors that a test provokes."""

    host: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Note errors of the console and of scripts, and requests to other hosts."""
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        context.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != self.host:
            self.foreign.append(url)

    def check(self) -> None:
        """Fail for every error that the test does not expect, and for every request to another host."""
        unexpected = [error for error in self.errors if not any(part in error for part in self.expected)]
        assert not unexpected
        assert not self.foreign


@pytest.fixture
def model(service: Service) -> Iterator[Behaviour]:
    """The model, whose answers a test may change."""
    yield service.model
    vars(service.model).update(vars(Behaviour()) | {"answer": ANSWER})


@pytest.fixture
def handbook_id(service: Service) -> str:
    """The id of the handbook, which is ready."""
    return service.upload("handbook.pdf", HANDBOOK.read_bytes())


@pytest.fixture
def watched(service: Service) -> Watched:
    """What the browser of this test does wrong. The end of the test checks that there is nothing."""
    return Watched(urlsplit(service.url).netloc)


@pytest.fixture
def context(browser: Browser, watched: Watched) -> Iterator[BrowserContext]:
    """A fresh profile of the browser."""
    with browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce") as opened:
        opened.set_default_timeout(PATIENCE_MS)
        watched.watch(opened)
        yield opened
    watched.check()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab."""
    return context.new_page()
