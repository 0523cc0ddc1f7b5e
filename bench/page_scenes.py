"""The screens of the page as docs/page.md shows them: how each is reached, and what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from playwright.sync_api import FilePayload, Page, Route

from settings import ROOT
from tests.support.openai_stub import Behaviour

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
REFUSAL = "[NO ANSWER] The handbook does not name the inventor of the lamp."
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
_HELD: list[Route] = []
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
    if "inventor" in prompt:
        return REFUSAL
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
    visit.page.get_by_text(re.compile(r"\d+ on \d+ page")).wait_for()
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


def _unanswered(visit: Visit) -> None:
    visit.open()
    visit.ask("Who is the inventor of the lamp, and how long does a full charge last in low mode?")
    visit.page.get_by_text("Your documents do not seem to answer this.").wait_for()


def _passage(visit: Visit) -> None:
    visit.open("documents")
    visit.page.get_by_role("button", name="Harbour rules, third edition.md").click()
    visit.page.locator("article.plain").wait_for()
    visit.settle()


def _tray(visit: Visit) -> None:
    visit.page.route("**/uploads", _hold_or_refuse)
    _documents(visit)
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Add files").click()
    texts = {"Log of the keeper 1887.txt": b"Wind.", "Too large.txt": b"refuse", "سجل.txt": b"Tide.", "Chart.txt": b"."}
    chooser.value.set_files([FilePayload(name=one, mimeType="text/plain", buffer=text) for one, text in texts.items()])
    visit.page.get_by_text("The file has more than").wait_for()


def _hold_or_refuse(route: Route) -> None:
    """Keep files on their way, and refuse one."""
    if b"refuse" in (route.request.post_data_buffer or b""):
        body = json.dumps({"detail": "The file has more than 100 MiB (MAX_UPLOAD_MB)."})
        route.fulfill(status=413, content_type="application/problem+json", body=body)
    else:
        _HELD.append(route)


def _stop_holding(visit: Visit) -> None:
    while _HELD:
        _HELD.pop().abort()
    visit.page.unroute_all()


def _session_ended(visit: Visit) -> None:
    me = visit.client.get("/me").json() | {"key_id": "k1"}
    visit.replace("**/me", me)
    _documents(visit)
    visit.replace("**/uploads?*", {"title": "Unauthorized", "status": 401, "detail": "The key has expired."}, 401)
    visit.page.get_by_label("Find documents by name").fill("lamp")
    visit.page.get_by_text("Your session has ended.").wait_for()


def _no_conversation(visit: Visit) -> None:
    visit.open("ask/long-gone")
    visit.page.get_by_text("This conversation is no longer kept.").wait_for()


def _gone_document(visit: Visit) -> None:
    _answer(visit)
    visit.page.route(re.compile(r"/uploads/[^/?]+(/pages.*)?$"), lambda route: route.fulfill(status=404, body="{}"))
    visit.page.goto(f"{visit.page.url}?view=gone&page=3")
    visit.page.get_by_text("This document was deleted").wait_for()


def _failed_lists(visit: Visit) -> None:
    busy = {"title": "Service Unavailable", "status": 503, "detail": "the queue is away"}
    for path in ("**/keys", "**/users", "**/webhooks", "**/settings", "**/stats", "**/ready"):
        visit.replace(path, busy, 503)
    visit.open("admin")
    visit.page.get_by_role("alert").nth(3).wait_for()


@dataclass(frozen=True)
class Scene:
    """A row of the contact sheet of its subject. `leave` undoes what the scene did to the service."""

    subject: str
    name: str
    shows: str
    enter: Callable[[Visit], None]
    leave: Callable[[Visit], None] | None = None


SCENES = (
    Scene("start", "first-run", "a service without documents", _first_run),
    Scene("start", "no-model", "what to set for a model", _no_model),
    Scene("start", "sign-in", "a server that asks for a key", _sign_in),
    Scene("start", "ask", "the start of a conversation", _empty_ask),
    Scene("start", "conversations", "the list of conversations", _conversations),
    Scene("start", "search-in", "what a question searches", _search_in),
    Scene("start", "settings", "the settings of an answer", _answer_settings),
    Scene("answers", "writing", "an answer while the model writes", _writing),
    Scene("answers", "answer", "an answer, with a citation removed", _answer),
    Scene("answers", "long", "long words, a table, a withheld link", _long_answer),
    Scene("answers", "arabic", "text from right to left", _arabic_answer),
    Scene("answers", "viewer", "a source beside its answer", _viewer),
    Scene("answers", "find", "words found in a document", _find),
    Scene("answers", "passage", "a document without pictures of pages", _passage),
    Scene("documents", "documents", "documents, one of which failed", _documents),
    Scene("documents", "tray", "files on their way, one refused", _tray, _stop_holding),
    Scene("documents", "details", "why a document failed", _document_details),
    Scene("documents", "deleted", "a deleted document that may be taken back", _deleted_document, _undo_delete),
    Scene("documents", "no-document", "a search that finds nothing", _no_document),
    Scene("service", "activity", "queues and jobs", _activity),
    Scene("service", "admin", "health and the last hour", _admin),
    Scene("service", "lists", "keys, users and webhooks", _admin_lists),
    Scene("service", "index", "the index and the settings", _admin_index),
    Scene("service", "new-key", "a new key", _new_key),
    Scene("failures", "unanswered", "a question that no document answers", _unanswered),
    Scene("failures", "failed", "an answer that failed", _failed_answer),
    Scene("failures", "away", "a server that cannot be reached", _server_away),
    Scene("failures", "failed-lists", "parts of Admin that could not be loaded", _failed_lists),
    Scene("failures", "session", "a session that has ended", _session_ended),
    Scene("failures", "no-conversation", "a conversation that is no longer kept", _no_conversation),
    Scene("failures", "gone", "a document that was deleted", _gone_document),
)
