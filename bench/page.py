"""`make bench-page`: how much the page loads, and how long a user waits for it, in a real Chromium.

`--pictures FOLDER` draws each screen in four widths, light and dark, instead; `--only NAME` draws some of the screens.
`--sheets docs` then joins the pictures of the folder to the contact sheets of docs/page.md.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from bench.page_scenes import HANDBOOK, QUESTION, model_answer
from bench.page_screens import HEIGHT, PATIENCE_MS, draw_contact_sheets, prepare, write_pictures
from bench.service import offline_environment, service, temporary_folder, wait_for_workers
from settings import ROOT
from tests.page.conftest import Watched
from tests.support.openai_stub import KEY, Behaviour, openai_stub

ROUNDS = 9


def first_load() -> dict[str, tuple[int, int]]:
    """Return the bytes of each file that the first screen and the viewer load: as they are, and compressed."""
    waiting, sizes = ["index.html", "style.css", "icon.svg", "early.js", "app.js"], dict[str, tuple[int, int]]()
    while waiting:
        name = waiting.pop()
        if name not in sizes:
            content = (ROOT / "page" / name).read_bytes()
            sizes[name] = len(content), len(gzip.compress(content))
            waiting += re.findall(r'^(?:import|export) .*?"\./([\w-]+\.js)";$', content.decode(), re.MULTILINE)
            waiting += re.findall(r'^} from "\./([\w-]+\.js)";$', content.decode(), re.MULTILINE)
    return sizes


@contextmanager
def served() -> Iterator[tuple[httpx.Client, Behaviour]]:
    """Run the service with a stub of a model; yield a client of it, and the stub."""
    with temporary_folder() as folder, openai_stub() as stub:
        stub.behaviour.answer = model_answer
        variables = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
        environment = offline_environment(folder / "data", **variables)
        with service("all", folder / "main.log", environment) as client:
            wait_for_workers(client, 1)
            yield client, stub.behaviour


@contextmanager
def chromium() -> Iterator[Browser]:
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


def _seen_ms(browser: Browser, url: str, selector: str) -> float:
    """Return the time from the start of a first visit until an element is painted."""
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(
            f"""new MutationObserver((_, observer) => {{
                if (!document.querySelector("{selector}")) return;
                observer.disconnect();
                requestAnimationFrame(() => (window.seen = performance.now()));
            }}).observe(document, {{ childList: true, subtree: true }});"""
        )
        page.goto(url)
        page.locator(selector).wait_for()
        return float(page.evaluate("new Promise((done) => requestAnimationFrame(() => done(window.seen)))"))


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


def _print_size() -> None:
    sizes = first_load()
    print(
        f"first load, viewer included: {len(sizes)} files, {sum(size for size, _ in sizes.values()) / 1000:.1f} KB, ",
        end="",
    )
    print(f"{sum(small for _, small in sizes.values()) / 1000:.1f} KB compressed")


def _print_times(browser: Browser, url: str) -> None:
    for name, measure in (
        ("a question can be typed", partial(_seen_ms, selector="textarea")),
        ("it can be asked", partial(_seen_ms, selector="rag-ask textarea")),
        ("cited page visible after the click", _cited_page_ms),
    ):
        started = time.monotonic()
        times = sorted(measure(browser, url) for _ in range(ROUNDS))
        median, worst = statistics.median(times), times[-1]
        print(f"{name}: median {median:.0f} ms, worst of {ROUNDS} {worst:.0f} ms ({time.monotonic() - started:.0f} s)")


def _print_faults(browser: Browser, url: str) -> None:
    """Visit each screen; print how many requests went to other hosts, and how many errors the console shows."""
    watched = Watched(urlsplit(url).netloc)
    with browser.new_context(viewport={"width": 1280, "height": HEIGHT}) as context:
        watched.watch(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        _ask(page, url)
        for screen in ("documents", "activity", "admin"):
            page.goto(f"{url}#/{screen}")
            page.get_by_role("heading", level=1).wait_for()
            page.wait_for_load_state("networkidle")
    print(f"requests to other hosts: {len(watched.foreign)}, errors of the console: {len(watched.errors)}")


def main() -> None:
    """Print sizes, times and faults; or draw the screens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="the folder of the pictures")
    parser.add_argument("--only", action="append", default=[], help="a screen to draw")
    parser.add_argument("--sheets", type=Path, help="join the pictures to sheets in this folder, and draw none")
    options = parser.parse_args()
    if options.pictures and options.sheets:
        draw_contact_sheets(options.pictures, options.sheets)
        return
    with served() as (client, model), chromium() as browser:
        if options.pictures:
            prepare(client)
            write_pictures(browser, client, model, options.pictures, options.only)
            return
        _print_size()
        _index_handbook(client)
        _print_times(browser, str(client.base_url))
        _print_faults(browser, str(client.base_url))


if __name__ == "__main__":
    main()
