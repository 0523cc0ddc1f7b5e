"""What the page says about an answer: stages, places in the queue, notices, copies, and what a question takes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import ANSWER, QUESTION, ask
from tests.support.openai_stub import Behaviour
from tests.support.pdfs import write_pdf
from tests.support.processes import wait_until
from tests.support.service import HANDBOOK, Service, service_with_model

TWO = "How long does the battery last at medium brightness, and what glows while the battery charges?"
ORANGE, HOURS = "The ring glows orange while the battery charges", "The battery lasts 9 hours at medium brightness"


class Writer:
    """The chat model and the judge: an answer of two claims, and what the judge says of each."""

    def __init__(self, verdict: str = "yes") -> None:
        self.verdict = verdict

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        """Answer a question, or judge the claims in a prompt; the claim about hours has the verdict."""
        prompt = " ".join(messages[-1]["content"].split())
        if "You check claims" in messages[0]["content"]:
            claims = re.findall(r"<claim-\w+ n=\"(\d+)\">(.*?)</claim", prompt)
            return "\n".join(f"{n} {self.verdict if '9 hours' in claim else 'yes'}" for n, claim in claims)
        numbers = [re.findall(r'n="(\d+)"', prompt[: prompt.index(one[4:])])[-1] for one in (ORANGE, HOURS)]
        # A verdict is remembered for its claim.
        hours = HOURS if self.verdict == "yes" else f"At best, {HOURS.lower()}"
        return f"{ORANGE} [{numbers[0]}]. {hours} [{numbers[1]}]."


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose citations are judged, and that does two jobs at a time."""
    variables = {"VERIFY_MODEL": "judge", "WORKER_CONCURRENCY": "2", "CHAT_MODELS": "other-model"}
    with service_with_model(tmp_path_factory.mktemp("answers"), **variables) as started:
        started.upload("handbook.pdf", HANDBOOK.read_bytes())
        yield started


@pytest.fixture
def model(service: Service) -> Iterator[Behaviour]:
    """The model, which confirms what it has written unless a test says otherwise."""
    service.model.answer = Writer()
    yield service.model
    vars(service.model).update(vars(Behaviour()))


def test_stages_and_places_in_the_queue_are_shown(page: Page, service: Service, model: Behaviour) -> None:
    page.goto(service.url)
    model.pause_seconds = 0.1
    for number in range(4):
        service.client.post("/chat", json={"query": f"What glows first, says number {number}?"}).raise_for_status()
    model.embedding_delay_seconds = model.chat_delay_seconds = 0.4
    page.evaluate(
        """() => {
            window.shown = [];
            const note = () => {
                const text = document.querySelector(".turns .status")?.textContent;
                if (text && text !== window.shown.at(-1)) window.shown.push(text);
            };
            new MutationObserver(note).observe(document.querySelector(".turns"), { childList: true, subtree: true });
        }"""
    )
    ask(page, TWO)
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    shown = page.evaluate("window.shown")
    places = [int(found[1]) for text in shown if (found := re.search(r"Waiting: number (\d+) in the queue", text))]
    assert places
    assert places == sorted(places, reverse=True)
    stages = [text for text in shown if text.endswith("…") and text not in {"Sending …", "Starting …"}]
    assert stages == ["Searching the documents …", "Writing the answer …", "Checking the citations …"]
    expect(page.locator(".turns .status")).to_have_count(0)


def test_a_source_that_the_judge_denies_is_doubted(page: Page, service: Service, model: Behaviour) -> None:
    model.answer = Writer("no")
    page.goto(service.url)
    ask(page, f"{TWO[:-1]}, if that is true?")
    expect(page.get_by_text("The check doubts a source. Read the marked quotes")).to_be_visible()
    cards = page.get_by_role("list", name="Sources").get_by_role("listitem")
    expect(cards).to_have_count(2)
    doubted = cards.filter(has_text="9 hours")
    expect(doubted.get_by_text("doubted")).to_be_visible()
    expect(cards.get_by_text("doubted")).to_have_count(1)


def test_an_answer_that_is_cut_says_so(page: Page, service: Service, model: Behaviour) -> None:
    model.finish_reason = "length"
    page.goto(service.url)
    ask(page, f"{TWO[:-1]}, at great length?")
    expect(page.get_by_text("The answer is cut: the model reached its limit of tokens.")).to_be_visible()
    expect(page.locator(".answer")).to_contain_text("9 hours")


def test_a_question_that_no_document_answers(page: Page, service: Service, model: Behaviour) -> None:
    model.answer = "[NO ANSWER] The handbook does not name the inventor of the battery."
    page.goto(service.url)
    ask(page, "Who invented the battery?")
    expect(page.locator(".answer")).to_have_text("The handbook does not name the inventor of the battery.")
    expect(page.get_by_text("Your documents do not seem to answer this. Try other words")).to_be_visible()
    expect(page.get_by_role("list", name="Sources")).to_have_count(0)
    expect(page.get_by_text("no source")).to_have_count(0)


def test_documents_that_are_not_searched_yet_are_counted(
    page: Page, service: Service, model: Behaviour, tmp_path_factory: pytest.TempPathFactory
) -> None:
    release = threading.Event()

    def hold(texts: list[str]) -> None:
        if any("Wexcombe" in text for text in texts):
            release.wait(60)

    model.before_vectors = hold
    slow = write_pdf(tmp_path_factory.mktemp("slow") / "slow.pdf", ["The tower of Wexcombe leans."])
    try:
        sent = service.client.post("/uploads", files={"file": (slow.name, slow.read_bytes())}).json()
        listed = f"/uploads/{sent['upload_id']}"
        wait_until(lambda: service.client.get(listed).json()["status"] == "processing", what="the reading")
        page.goto(service.url)
        ask(page, f"{TWO[:-1]}, while another is read?")
        expect(page.get_by_text("1 document not searched: still being indexed.")).to_be_visible()
    finally:
        release.set()
    service.client.get(f"/result/{sent['job_id']}", params={"wait": 30})
    service.client.delete(listed).raise_for_status()


def test_an_answer_is_copied_with_its_citations(page: Page, service: Service, model: Behaviour) -> None:
    model.answer = ANSWER
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(service.url)
    ask(page, QUESTION)
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    text, _, sources = copied.partition("\n\n[1] ")
    assert text.startswith("A full charge takes **three hours and twenty minutes** [1].")
    assert sources.startswith("handbook.pdf, page 2 (4 of the file): “")
    assert "three hours and twenty minutes" in sources
    assert sources.rstrip().endswith("”")


def test_scope_and_settings_arrive_with_the_question(page: Page, service: Service, model: Behaviour) -> None:
    del model
    (upload_id,) = [one["upload_id"] for one in service.client.get("/uploads?name=handbook").json()["uploads"]]
    page.goto(service.url)
    page.get_by_role("button", name="All documents").click()
    dialog = page.get_by_role("dialog", name="Search in")
    dialog.get_by_role("checkbox", name="handbook.pdf").check()
    dialog.get_by_label("From page").fill("2")
    dialog.get_by_label("To page").fill("7")
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="pages 2 to 7")).to_be_visible()

    page.get_by_role("button", name="Settings", exact=True).click()
    dialog = page.get_by_role("dialog", name="Settings of the next answers")
    dialog.get_by_role("combobox").select_option("other-model")
    for label, value in (("Passages", "4"), ("Least score", "0.05"), ("Temperature", "0.5"), ("Longest answer", "900")):
        dialog.get_by_label(label).fill(value)
    dialog.get_by_label("Answer again").check()
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="6 settings changed")).to_be_visible()
    with page.expect_request("**/chat") as asked:
        ask(page, TWO)
    body = json.loads(asked.value.post_data or "{}")
    assert body.pop("conversation_id").startswith("page-")
    assert body == {
        "query": TWO,
        "upload_id": [upload_id],
        "first_page": 2,
        "last_page": 7,
        "model": "other-model",
        "k": 4,
        "min_score": 0.05,
        "temperature": 0.5,
        "max_tokens": 900,
        "cache": False,
    }
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    assert "other-model" in {call["model"] for call in service.model.chats}
    page.get_by_text("Details").click()
    expect(page.locator("details")).to_contain_text("other-model")


def test_scope_and_settings_are_taken_back(page: Page, service: Service, model: Behaviour) -> None:
    del model
    page.goto(service.url)
    page.get_by_role("button", name="All documents").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("checkbox", name="handbook.pdf").check()
    dialog.get_by_label("From page").fill("2")
    dialog.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Settings", exact=True).click()
    # The dialog ignores a value out of bounds.
    for label, value in (("Passages", "500"), ("Temperature", "1")):
        dialog.get_by_label(label).fill(value)
    dialog.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="pages 2 to the end").click()
    page.get_by_role("button", name="handbook.pdf", exact=True).click()
    page.get_by_role("button", name="1 setting changed").click()
    dialog.get_by_role("button", name="Reset").click()
    with page.expect_request("**/chat") as asked:
        ask(page, f"{TWO[:-1]}, once more?")
    assert set(json.loads(asked.value.post_data or "{}")) == {"query", "conversation_id"}
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
