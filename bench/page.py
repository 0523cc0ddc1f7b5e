"""`make bench-page`: how much the page loads, and how long a user waits for it, in a real Chromium.

With `--pictures PATH` it also draws the contact sheet of docs/page.md: each screen in four widths, light and dark.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from bench.service import offline_environment, service, temporary_folder, wait_for_workers
from settings import ROOT
from tests.support.openai_stub import KEY, openai_stub

ROUNDS = 9
PATIENCE_MS = 60_000
HANDBOOK = ROOT / "samples" / "handbook.pdf"
QUESTION = "How long does a full charge take, and how long does it last?"
# `%(charge)s` and `%(life)s` are the numbers of the sources that hold these words.
WORDS = {"charge": "three hours and twenty minutes", "life": "38 hours in low mode"}
ANSWER = """A full charge takes **three hours and twenty minutes** [%(charge)s]. The ring glows orange while the \
battery charges, and turns green when it is full [%(charge)s].

How long a charge lasts depends on the mode:

- The battery lasts 9 hours at medium brightness [%(life)s].
- It lasts 38 hours in low mode [%(life)s].

The lamp was invented by Alessandro Volta in 1799 [%(life)s].
"""
DOCUMENTS = {
    "Tide tables of Brindle Point 2026.txt": "High water is at six.",
    "Harbour rules, third edition.md": "# Harbour rules\n\nMoored boats need a permit.",
    "scan of the deed.txt": " ",
    "دليل المصباح.txt": "الشحن الكامل يستغرق ثلاث ساعات.",
    "Minutes of the keepers' meeting.html": "<h1>Minutes</h1><p>The lamp is to be cleaned weekly.</p>",
}
QUESTIONS = (
    "When is high water at Brindle Point?",
    "Who may moor a boat?",
    "كم يستغرق شحن المصباح؟",
    "How often is the lamp cleaned?",
)
# What the contact sheet shows: each screen, in each width and scheme.
WIDTHS = (320, 768, 1280, 1920)
SCHEMES = ("light", "dark")
HEIGHT = 900
CELL_HEIGHT, GAP = 300, 8
BACKGROUND = "#808080"


def first_load() -> dict[str, tuple[int, int]]:
    """Return the bytes of each file that the first screen and the viewer load: as they are, and compressed."""
    waiting, sizes = ["index.html", "style.css", "icon.svg", "app.js"], dict[str, tuple[int, int]]()
    while waiting:
        name = waiting.pop()
        if name not in sizes:
            content = (ROOT / "page" / name).read_bytes()
            sizes[name] = len(content), len(gzip.compress(content))
            waiting += re.findall(r'^(?:import|export) .*?"\./([\w-]+\.js)";$', content.decode(), re.MULTILINE)
            waiting += re.findall(r'^} from "\./([\w-]+\.js)";$', content.decode(), re.MULTILINE)
    return sizes


def answer(messages: list[dict[str, Any]]) -> str:
    """Return what the model writes: each sentence with the number of the source that holds its words."""
    prompt = " ".join(messages[-1]["content"].split())
    return ANSWER % {name: re.findall(r'n="(\d+)"', prompt.partition(words)[0])[-1] for name, words in WORDS.items()}


@contextmanager
def _served() -> Iterator[httpx.Client]:
    """Run the service with a stub of a model; yield a client of it."""
    with temporary_folder() as folder, openai_stub() as stub:
        stub.behaviour.answer = answer
        variables = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
        environment = offline_environment(folder / "data", **variables)
        with service("all", folder / "main.log", environment) as client:
            wait_for_workers(client, 1)
            yield client


@contextmanager
def _chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def _index_handbook(client: httpx.Client) -> str:
    sent = client.post("/uploads", files={"file": (HANDBOOK.name, HANDBOOK.read_bytes())}).raise_for_status().json()
    client.get(f"/result/{sent['job_id']}", params={"wait": 60}, timeout=90).raise_for_status()
    return str(sent["upload_id"])


def _ask(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("Question", exact=True).fill(QUESTION)
    page.keyboard.press("Enter")
    page.get_by_role("list", name="Sources").wait_for()


def _interactive_ms(browser: Browser, url: str) -> float:
    """Return the time from the start of a first visit until a question can be typed."""
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(
            """new MutationObserver((_, observer) => {
                if (!document.querySelector("rag-ask textarea")) return;
                observer.disconnect();
                requestAnimationFrame(() => (window.interactive = performance.now()));
            }).observe(document, { childList: true, subtree: true });"""
        )
        page.goto(url)
        page.locator("rag-ask textarea").wait_for()
        return float(page.evaluate("new Promise((done) => requestAnimationFrame(() => done(window.interactive)))"))


def _cited_page_ms(browser: Browser, url: str) -> float:
    """Return the time from the click on a citation until its page and the mark on it are painted."""
    with browser.new_context(viewport={"width": 1280, "height": HEIGHT}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        _ask(page, url)
        page.wait_for_load_state("networkidle")
        return float(
            page.evaluate(
                """() => new Promise((done) => {
                    const start = performance.now();
                    document.querySelector(".card").click();
                    const look = () => {
                        const seen = document.querySelector("figure.loaded") && document.querySelector(".mark");
                        requestAnimationFrame(seen ? () => done(performance.now() - start) : look);
                    };
                    look();
                })"""
            )
        )


def _screens(browser: Browser, client: httpx.Client, width: int, scheme: str) -> Iterator[bytes]:
    """Yield a picture of each screen; the first is that of a service without documents."""
    url = str(client.base_url)
    viewport = {"width": width, "height": HEIGHT}
    dark = "dark" if scheme == "dark" else "light"
    with browser.new_context(viewport=viewport, color_scheme=dark, reduced_motion="reduce") as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        empty = '{"uploads": [], "next": null}'
        page.route("**/uploads?limit=1", lambda route: route.fulfill(content_type="application/json", body=empty))
        page.goto(url)
        page.get_by_role("button", name="Try the sample").wait_for()
        yield page.screenshot()
        page.unroute_all()
        page.reload()
        _ask(page, url)
        page.wait_for_load_state("networkidle")
        yield page.screenshot()
        page.locator(".card").first.click()
        page.locator("figure.loaded").wait_for()
        page.locator(".mark").first.wait_for()
        yield page.screenshot()
        for screen, filled in (("documents", ".document"), ("activity", ".jobs li"), ("admin", ".tile strong.word")):
            page.goto(f"{url}#/{screen}")
            page.locator(f"rag-{screen} {filled}").first.wait_for()
            page.wait_for_load_state("networkidle")
            yield page.screenshot()


def _add_documents(client: httpx.Client) -> None:
    """Fill the lists: documents that can be read and one that cannot, and questions."""
    for name, text in DOCUMENTS.items():
        job_id = client.post("/uploads", files={"file": (name, text.encode())}).raise_for_status().json()["job_id"]
        client.get(f"/result/{job_id}", params={"wait": 60}, timeout=90)
    for question in QUESTIONS:
        client.post("/chat", json={"query": question}).raise_for_status()


def _draw_contact_sheet(browser: Browser, client: httpx.Client, path: Path) -> None:
    """Write one picture: a row for each screen, in it the widths, each light and dark."""
    _add_documents(client)
    columns = [list(_screens(browser, client, width, scheme)) for width in WIDTHS for scheme in SCHEMES]
    cells = [[_shrunk(picture) for picture in column] for column in columns]
    width = sum(column[0].width + GAP for column in cells) + GAP
    sheet = Image.new("RGB", (width, len(cells[0]) * (CELL_HEIGHT + GAP) + GAP), BACKGROUND)
    left = GAP
    for column in cells:
        for row, cell in enumerate(column):
            sheet.paste(cell, (left, GAP + row * (CELL_HEIGHT + GAP)))
        left += column[0].width + GAP
    sheet.save(path, quality=70, method=6)
    print(f"{path}: {sheet.width} x {sheet.height}, {path.stat().st_size / 1000:.0f} KB")


def _shrunk(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return image.resize((round(image.width * CELL_HEIGHT / image.height), CELL_HEIGHT), Image.Resampling.LANCZOS)


def main() -> None:
    """Print sizes and times; with `--pictures`, draw the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="write the contact sheet to this .webp")
    options = parser.parse_args()
    sizes = first_load()
    print(
        f"first load, viewer included: {len(sizes)} files, {sum(size for size, _ in sizes.values()) / 1000:.1f} KB, ",
        end="",
    )
    print(f"{sum(small for _, small in sizes.values()) / 1000:.1f} KB compressed")
    with _served() as client, _chromium() as browser:
        upload_id = _index_handbook(client)
        url = str(client.base_url)
        for name, measure in (("interactive", _interactive_ms), ("cited page visible after the click", _cited_page_ms)):
            started = time.monotonic()
            times = sorted(measure(browser, url) for _ in range(ROUNDS))
            median, worst = statistics.median(times), times[-1]
            print(
                f"{name}: median {median:.0f} ms, worst of {ROUNDS} {worst:.0f} ms ({time.monotonic() - started:.0f} s)"
            )
        if options.pictures:
            _draw_contact_sheet(browser, client, options.pictures)
        client.delete(f"/uploads/{upload_id}")


if __name__ == "__main__":
    main()
