"""What the tests of the page share: a real Chromium, and a running service with a model of our own behind it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect, sync_playwright

from tests.support.openai_stub import Behaviour
from tests.support.servers import missing
from tests.support.service import HANDBOOK, Service, service_with_model

QUESTION = "How long does a full charge take?"
# What a wait may take when other programs have all of the machine.
PATIENCE_MS = 40_000
# What the model writes: both sentences are supported, the third is not, and the fourth cites nothing.
ANSWER = """A full charge takes **three hours and twenty minutes** [1]. The ring turns green when it is full [1].

The lamp was invented by Alessandro Volta in 1799 [1].

Cold weather shortens this. See [the maker](https://maker.example/lamp) ![chart](https://images.example/chart.png)"""


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start the service as a user does, with a model provider of our own."""
    variables = {"CHAT_MODELS": "other-model", "WEBHOOK_ALLOW_HTTP": "1", "WEBHOOK_ALLOW_PRIVATE": "1"}
    with service_with_model(tmp_path_factory.mktemp("page"), **variables) as started:
        started.model.answer = ANSWER
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


def drop(page: Page, *paths: Path) -> None:
    """Drop files and folders of this machine on the page, as a file manager does."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": step, "x": 200, "y": 200, "data": data})


def hold(page: Page, address: str | re.Pattern[str]) -> list[Route]:
    """Keep requests from the server; return them as they come, to be continued or answered."""
    held: list[Route] = []

    def keep(route: Route) -> None:  # Playwright marks its handlers, which no method of a list allows
        held.append(route)

    page.route(address, keep)
    return held


def wait_for_requests(page: Page, held: list[Route], number: int = 1) -> None:
    """Wait until a route was asked for `number` times; Playwright calls its handlers only while it waits itself."""
    while len(held) < number:
        page.wait_for_timeout(50)


def ask(page: Page, question: str) -> None:
    """Type a question and send it."""
    page.get_by_label("Question", exact=True).fill(question)
    page.keyboard.press("Enter")


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
        context.on("console", self._note_line)
        context.on("request", lambda request: self._note(request.url))

    def _note_line(self, line: ConsoleMessage) -> None:
        # Chromium drops open requests when a network interface of the machine comes or goes; the page loads them again.
        if line.type == "error" and "ERR_NETWORK_CHANGED" not in line.text:
            self.errors.append(f"{line.text} {line.location['url']}")

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
def uploads(service: Service) -> Iterator[list[str]]:
    """The ids of what a test uploads, which is deleted at its end."""
    ids: list[str] = []
    yield ids
    for upload_id in ids:
        service.client.delete(f"/uploads/{upload_id}").raise_for_status()


@pytest.fixture
def handbook_id(service: Service) -> str:
    """The id of the handbook, which is ready."""
    return service.upload("handbook.pdf", HANDBOOK.read_bytes())


@pytest.fixture
def address(service: Service) -> str:
    """The address of the page."""
    return service.url


@pytest.fixture
def watched(address: str) -> Watched:
    """What the browser of this test does wrong. The end of the test checks that there is nothing."""
    return Watched(urlsplit(address).netloc)


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
