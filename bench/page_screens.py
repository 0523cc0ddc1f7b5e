"""The screens of the page, and the pictures of them: what docs/page.md shows, in each width and colour scheme."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page

from settings import ROOT
from tests.support.openai_stub import Behaviour

WIDTHS = (320, 768, 1280, 1920)
SCHEMES = ("light", "dark")
HEIGHT = 900
PATIENCE_MS = 60_000
CELL_HEIGHT, GAP = 300, 8
BACKGROUND = "#808080"
HANDBOOK = ROOT / "samples" / "handbook.pdf"
QUESTION = "How long does a full charge take, and how long does it last?"
ARABIC_QUESTION = "كم يستغرق شحن المصباح full charge؟"
LONG_QUESTION = f"What does the label {'Aktenvernichtungsbestätigung' * 5} of a full charge mean, and who writes it?"
# `%(charge)s` and `%(life)s` are the numbers of the sources that hold these words.
WORDS = {"charge": "three hours and twenty minutes", "life": "38 hours in low mode"}
ANSWER = """A full charge takes **three hours and twenty minutes** [%(charge)s]. The ring glows orange while the \
battery charges, and turns green when it is full [%(charge)s].

How long a charge lasts depends on the mode:

- The battery lasts 9 hours at medium brightness [%(life)s].
- It lasts 38 hours in low mode [%(life)s].

The lamp was invented by Alessandro Volta in 1799 [%(life)s].
"""
ARABIC_ANSWER = 'الشحن الكامل يستغرق ثلاث ساعات وعشرين دقيقة [%(charge)s "three hours and twenty minutes"].'
LONG_ANSWER = (
    """A full charge takes three hours and twenty minutes [%(charge)s].

| mode | hours | what the maker says about it |
|---|---|---|
| medium brightness | 9 | The battery lasts 9 hours at medium brightness [%(life)s]. |
| low mode | 38 | It lasts 38 hours in low mode [%(life)s]. |

See [the maker](https://maker.example/lamps/"""
    + "very-long-name/" * 12
    + """) and `"""
    + "0123456789abcdef" * 12
    + "`.\n"
)
DOCUMENTS = {
    "Tide tables of Brindle Point 2026.txt": "High water is at six.",
    "Harbour rules, third edition.md": "# Harbour rules\n\nMoored boats need a permit.",
    "scan of the deed.txt": " ",
    "دليل المصباح.txt": "الشحن الكامل يستغرق ثلاث ساعات.",
    "Minutes of the keepers' meeting.html": "<h1>Minutes</h1><p>The lamp is to be cleaned weekly.</p>",
    f"{'Protokoll_der_Hauptversammlung_' * 6}2026.txt": "The assembly meets in May.",
}
_NUMBERS = count(1)
QUESTIONS = (
    "When is high water at Brindle Point?",
    "Who may moor a boat?",
    "كم يستغرق شحن المصباح؟",
    "How often is the lamp cleaned?",
)


@dataclass(frozen=True)
class Visit:
    """A tab on a running service, whose model writes what a scene wants."""

    page: Page
    client: httpx.Client
    model: Behaviour

    def open(self, screen: str = "ask") -> None:
        """Load the page at a screen, as on a first visit."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.client.base_url}#/{screen}")

    def ask(self, question: str) -> None:
        """Type a question and send it."""
        self.page.get_by_label("Question", exact=True).fill(question)
        self.page.keyboard.press("Enter")

    def settle(self) -> None:
        """Wait until nothing is loaded any more. Screens that follow jobs keep loading."""
        with suppress(Exception):
            self.page.wait_for_load_state("networkidle", timeout=5_000)

    def replace(self, path: str, body: object, status: int = 200) -> None:
        """Answer this path as given, instead of the service."""
        kind = "application/json" if status < httpx.codes.BAD_REQUEST else "application/problem+json"
        self.page.route(path, lambda route: route.fulfill(status=status, content_type=kind, body=json.dumps(body)))


def model_answer(messages: list[dict[str, Any]]) -> str:
    """Return what the model writes: each sentence with the number of the source that holds its words."""
    prompt = " ".join(messages[-1]["content"].split())
    numbers = {name: re.findall(r'n="(\d+)"', prompt.partition(words)[0]) for name, words in WORDS.items()}
    if not all(numbers.values()):
        return "The documents do not say."
    chosen = ARABIC_ANSWER if "المصباح" in prompt else LONG_ANSWER if "label" in prompt else ANSWER
    return chosen % {name: found[-1] for name, found in numbers.items()}


def _first_run(visit: Visit) -> None:
    visit.replace("**/uploads?limit=1", {"uploads": [], "next": None})
    visit.open()
    visit.page.get_by_role("button", name="Try the sample").wait_for()


def _no_model(visit: Visit) -> None:
    visit.replace("**/v1/models", {"object": "list", "data": [{"id": "rag", "object": "model"}]})
    visit.replace("**/settings/suggested", {"ollama": None})
    visit.open()
    visit.page.get_by_role("button", name="Set a model").click()
    visit.page.get_by_role("dialog").wait_for()


def _sign_in(visit: Visit) -> None:
    visit.replace("**/me", {"title": "Unauthorized", "status": 401, "detail": "A key is needed."}, 401)
    visit.open()
    visit.page.get_by_label("Key", exact=True).wait_for()


def _empty_ask(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_role("heading", name="Ask your documents").wait_for()


def _answer(visit: Visit) -> None:
    visit.open()
    visit.ask(QUESTION)
    visit.page.get_by_role("list", name="Sources").wait_for()
    visit.settle()


def _writing(visit: Visit) -> None:
    visit.model.pause_seconds = 1.0
    visit.open()
    # A question that was answered before has its answer at once.
    visit.ask(f"{QUESTION} This is lamp number {next(_NUMBERS)}.")
    visit.page.locator(".answer.writing").get_by_text("A full charge").wait_for()


def _failed_answer(visit: Visit) -> None:
    visit.model.always_fail = 401
    visit.open()
    visit.ask("How long does a full charge take, while the key is wrong?")
    visit.page.get_by_role("alert").wait_for()


def _long_answer(visit: Visit) -> None:
    visit.open()
    visit.ask(LONG_QUESTION)
    visit.page.get_by_role("list", name="Sources").wait_for()
    visit.settle()


def _arabic_answer(visit: Visit) -> None:
    visit.open()
    visit.ask(ARABIC_QUESTION)
    visit.page.get_by_role("list", name="Sources").wait_for()
    visit.settle()


def _viewer(visit: Visit) -> None:
    _answer(visit)
    visit.page.locator(".card").first.click()
    visit.page.locator("figure.loaded").wait_for()
    visit.page.locator(".mark").first.wait_for()


def _find(visit: Visit) -> None:
    _viewer(visit)
    visit.page.get_by_role("searchbox").last.fill("battery")
    visit.page.keyboard.press("Enter")
    visit.settle()


def _conversations(visit: Visit) -> None:
    _answer(visit)
    visit.page.get_by_role("button", name="Conversations").click()
    visit.page.get_by_role("dialog").locator("li").first.wait_for()


def _search_in(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_role("button", name="All documents").click()
    visit.page.get_by_role("dialog").locator("li").first.wait_for()
    visit.page.get_by_role("dialog").get_by_role("checkbox").first.check()


def _answer_settings(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_role("button", name="Settings", exact=True).click()
    visit.page.get_by_role("dialog").wait_for()


def _documents(visit: Visit) -> None:
    visit.open("documents")
    visit.page.locator(".document").first.wait_for()
    visit.settle()


def _document_details(visit: Visit) -> None:
    _documents(visit)
    failed = visit.page.locator(".document").filter(has_text="scan of the deed")
    failed.get_by_role("button", name="More about this document").click()
    visit.page.get_by_role("dialog").wait_for()


def _deleted_document(visit: Visit) -> None:
    _documents(visit)
    long_name = visit.page.locator(".document").filter(has_text="Protokoll")
    long_name.get_by_role("button", name="Delete").click()
    visit.page.get_by_role("button", name="Undo").wait_for()


def _undo_delete(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Undo").click()


def _no_document(visit: Visit) -> None:
    _documents(visit)
    visit.page.get_by_label("Find documents by name").fill("nothing is called this")
    visit.page.get_by_text("No document has this name and status.").wait_for()


def _activity(visit: Visit) -> None:
    visit.open("activity")
    visit.page.locator(".jobs li").first.wait_for()
    visit.settle()


def _admin(visit: Visit) -> None:
    visit.open("admin")
    visit.page.locator(".tile strong.word").first.wait_for()
    visit.page.locator(".chart").first.wait_for()
    visit.settle()


def _admin_lists(visit: Visit) -> None:
    _admin(visit)
    visit.page.get_by_role("heading", name="Keys", exact=True).evaluate(
        "(node) => node.closest('section').scrollIntoView()"
    )


def _admin_index(visit: Visit) -> None:
    _admin(visit)
    visit.page.get_by_role("heading", name="Index", exact=True).evaluate(
        "(node) => node.closest('section').scrollIntoView()"
    )


def _new_key(visit: Visit) -> None:
    _admin(visit)
    visit.page.get_by_role("button", name="New key").click()
    visit.page.get_by_role("dialog").wait_for()


def _server_away(visit: Visit) -> None:
    _documents(visit)
    visit.page.route("**/uploads*", lambda route: route.abort())
    visit.page.get_by_label("Find documents by name").fill("lamp")
    visit.page.locator(".notice.bad").wait_for()


@dataclass(frozen=True)
class Scene:
    """A row of the contact sheet. `leave` undoes what the scene did to the service."""

    name: str
    shows: str
    enter: Callable[[Visit], None]
    leave: Callable[[Visit], None] | None = None


SCENES = (
    Scene("first-run", "a service without documents", _first_run),
    Scene("no-model", "what to set for a model", _no_model),
    Scene("sign-in", "a server that asks for a key", _sign_in),
    Scene("ask", "the start of a conversation", _empty_ask),
    Scene("writing", "an answer while the model writes", _writing),
    Scene("answer", "an answer, with a citation removed", _answer),
    Scene("long", "long words, a table, a withheld link", _long_answer),
    Scene("arabic", "text from right to left", _arabic_answer),
    Scene("failed", "an answer that failed", _failed_answer),
    Scene("viewer", "a source beside its answer", _viewer),
    Scene("find", "words found in a document", _find),
    Scene("conversations", "the list of conversations", _conversations),
    Scene("search-in", "what a question searches", _search_in),
    Scene("settings", "the settings of an answer", _answer_settings),
    Scene("documents", "documents, one of which failed", _documents),
    Scene("details", "why a document failed", _document_details),
    Scene("deleted", "a deleted document that may be taken back", _deleted_document, _undo_delete),
    Scene("no-document", "a search that finds nothing", _no_document),
    Scene("away", "a server that cannot be reached", _server_away),
    Scene("activity", "queues and jobs", _activity),
    Scene("admin", "health and the last hour", _admin),
    Scene("lists", "keys, users and webhooks", _admin_lists),
    Scene("index", "the index and the settings", _admin_index),
    Scene("new-key", "a new key", _new_key),
)


def prepare(client: httpx.Client) -> None:
    """Fill the lists: documents that can be read and one that cannot, questions, a key, an endpoint."""
    contents = {name: text.encode() for name, text in DOCUMENTS.items()} | {HANDBOOK.name: HANDBOOK.read_bytes()}
    for name, content in contents.items():
        job_id = client.post("/uploads", files={"file": (name, content)}).raise_for_status().json()["job_id"]
        if job_id:
            client.get(f"/result/{job_id}", params={"wait": 60}, timeout=90)
    for question in QUESTIONS:
        client.post("/chat", json={"query": question}).raise_for_status()
    endpoint = {"url": "https://hooks.example/answers-of-the-lighthouse-keepers"}
    client.post("/webhooks", json=endpoint).raise_for_status()


def pictures(
    browser: Browser, client: httpx.Client, model: Behaviour, scene: Scene
) -> Iterator[tuple[int, str, bytes]]:
    """Yield a picture of a scene with its width and scheme, for each width, light and dark."""
    for width in WIDTHS:
        for scheme in SCHEMES:
            with _visit(browser, client, model, width, scheme) as visit:
                scene.enter(visit)
                yield width, scheme, visit.page.screenshot()
                if scene.leave:
                    scene.leave(visit)


@contextmanager
def _visit(browser: Browser, client: httpx.Client, model: Behaviour, width: int, scheme: str) -> Iterator[Visit]:
    viewport = {"width": width, "height": HEIGHT}
    with browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce") as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield Visit(page, client, model)
        vars(model).update(vars(Behaviour()) | {"answer": model_answer})


def _scenes(names: Sequence[str]) -> list[Scene]:
    return [scene for scene in SCENES if not names or scene.name in names]


def write_pictures(
    browser: Browser, client: httpx.Client, model: Behaviour, folder: Path, names: Sequence[str] = ()
) -> None:
    """Write a picture of each scene in each width and scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    for scene in _scenes(names):
        for width, scheme, picture in pictures(browser, client, model, scene):
            _path(folder, scene, width, scheme).write_bytes(picture)


def draw_contact_sheet(folder: Path, path: Path) -> None:
    """Join the pictures of a folder: a row for each scene, in it the widths, each light and dark; print the rows.

    A scene is left out where a picture is missing.
    """
    places = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
    files = {scene: [_path(folder, scene, *place) for place in places] for scene in SCENES}
    drawn = {scene: paths for scene, paths in files.items() if all(one.exists() for one in paths)}
    rows = [[_shrunk(one) for one in paths] for paths in drawn.values()]
    width = sum(cell.width + GAP for cell in rows[0]) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (CELL_HEIGHT + GAP) + GAP), BACKGROUND)
    for number, row in enumerate(rows):
        left = GAP
        for cell in row:
            sheet.paste(cell, (left, GAP + number * (CELL_HEIGHT + GAP)))
            left += cell.width + GAP
    sheet.save(path, quality=60, method=6)
    print(f"{path}: {sheet.width} x {sheet.height}, {path.stat().st_size / 1000:.0f} KB")
    for number, scene in enumerate(drawn, start=1):
        print(f"{number}. {scene.shows}")


def _path(folder: Path, scene: Scene, width: int, scheme: str) -> Path:
    return folder / f"{scene.name}-{width}-{scheme}.png"


def _shrunk(path: Path) -> Image.Image:
    image = Image.open(path).convert("RGB")
    return image.resize((round(image.width * CELL_HEIGHT / image.height), CELL_HEIGHT), Image.Resampling.LANCZOS)
