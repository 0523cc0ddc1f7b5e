"""Everything by keyboard alone: citations and the viewer, documents with undo, jobs, dialogs, screens."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import QUESTION
from tests.page.test_viewer import _two_sentences
from tests.support.openai_stub import Behaviour
from tests.support.pdfs import write_pdf
from tests.support.processes import wait_until
from tests.support.service import Service

MOST_TABS = 80
TWO = "How long does the battery last at medium brightness, and what glows while the battery charges?"


@pytest.fixture(autouse=True)
def _no_mouse(page: Page) -> None:
    """Have a click fail the test."""
    page.add_init_script(
        "addEventListener('mousedown', () => { throw new Error('a mouse was used'); }, { capture: true });"
    )


def tab_to(page: Page, selector: str, *, back: bool = False) -> None:
    """Press Tab until an element has the focus that can be seen."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            break
    focused = page.locator(selector).and_(page.locator(":focus-visible"))
    expect(focused).to_have_count(1)
    outline = focused.evaluate("(node) => getComputedStyle(node).outlineStyle")
    assert outline != "none"


@pytest.mark.usefixtures("handbook_id")
def test_citations_and_the_viewer(page: Page, service: Service, model: Behaviour) -> None:
    model.answer = _two_sentences
    page.goto(service.url)
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    page.keyboard.type(TWO)
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    tab_to(page, ".answer button.cite", back=True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="handbook.pdf")).to_be_focused()
    expect(page.locator(".mark").first).to_be_visible()
    first = page.locator(".quote-bar .count").text_content()
    # Next and previous by their buttons; the keys n and p are for the same.
    tab_to(page, "[aria-label='Next quote (n)']")
    page.keyboard.press("Enter")
    expect(page.locator(".quote-bar .count")).not_to_have_text(first or "")
    page.keyboard.press("p")
    expect(page.locator(".quote-bar .count")).to_have_text(first or "")
    page.keyboard.press("n")
    expect(page.locator(".quote-bar .count")).not_to_have_text(first or "")
    # The page itself is scrolled, searched and enlarged.
    tab_to(page, ".stage")
    tab_to(page, "[aria-label='Find in the document']", back=True)
    page.keyboard.type("lithium-ion")
    expect(page.locator(".hit").first).to_be_visible()
    tab_to(page, "[aria-label='Larger']", back=True)
    page.keyboard.press("Enter")
    expect(page.locator("figure")).to_have_attribute("style", "width: 125%;")
    tab_to(page, "[aria-label='Close the document']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Document")).to_be_hidden()
    expect(page.locator(".answer button.cite").and_(page.locator(":focus"))).to_have_count(1)


def test_a_document_is_deleted_and_taken_back(
    page: Page, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = write_pdf(tmp_path_factory.mktemp("keys") / "buoy of Fennick.pdf", ["The buoy of Fennick is red."])
    upload_id = service.upload(made.name, made.read_bytes())
    page.goto(service.url)
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    tab_to(page, "nav a[href='#/documents']", back=True)
    page.keyboard.press("Enter")
    row = page.get_by_role("region", name="List of documents").get_by_role("listitem").filter(has_text=made.name)
    expect(row.get_by_text("1 page ·")).to_be_visible()
    for step in ("Undo", "Dismiss"):
        for _ in range(MOST_TABS):
            page.keyboard.press("Tab")
            if row.get_by_role("button", name="Delete").evaluate("(node) => node === document.activeElement"):
                break
        page.keyboard.press("Enter")
        expect(row).to_have_count(0)
        # The focus stays near, and the message is reached from there.
        expect(page.get_by_role("region", name="List of documents")).to_be_focused()
        toast = ".toast button:not([aria-label])" if step == "Undo" else ".toast [aria-label='Dismiss']"
        tab_to(page, toast)
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        if step == "Undo":
            expect(row.get_by_text("1 page ·")).to_be_visible()
            assert service.client.get(f"/uploads/{upload_id}").is_success
    wait_until(lambda: service.client.get(f"/uploads/{upload_id}").status_code == 404, what="the deletion")


@pytest.mark.usefixtures("handbook_id")
def test_a_job_is_cancelled(page: Page, service: Service, model: Behaviour) -> None:
    model.pause_seconds = 1.0
    question = f"{QUESTION[:-1]}, cancelled by a key?"
    job_id = service.client.post("/chat", json={"query": question}).json()["job_id"]
    page.goto(f"{service.url}#/activity")
    job = page.get_by_role("list", name="Jobs", exact=True).get_by_role("listitem").filter(has_text=question)
    expect(job.locator(".state")).to_have_text("writing")
    tab_to(page, ".jobs [aria-label='Cancel']")
    # The focus stays while the list is read again every two seconds.
    with page.expect_response(lambda response: "/jobs?" in response.url):
        pass
    expect(page.locator(".jobs [aria-label='Cancel']").and_(page.locator(":focus"))).to_have_count(1)
    page.keyboard.press("Enter")
    expect(job.locator(".state")).to_have_text("cancelled")
    assert service.client.get(f"/result/{job_id}").json()["status"] == "cancelled"


@pytest.mark.usefixtures("handbook_id")
def test_dialogs_keep_the_focus_and_give_it_back(page: Page, service: Service) -> None:
    page.goto(service.url)
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    tab_to(page, ".chips .chip")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Search in")
    expect(dialog.get_by_role("checkbox").first).to_be_visible()
    tab_to(page, "dialog input[type=checkbox]")
    page.keyboard.press("Space")
    for _ in range(20):  # a browser's own bar may be in between, but nothing behind the dialog
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    chip = page.get_by_role("button", name="1 document", exact=True)
    expect(chip).to_be_focused()


def test_the_navigation_is_skipped(page: Page, service: Service) -> None:
    page.goto(f"{service.url}#/admin")
    expect(page.get_by_role("heading", level=1, name="Admin")).to_be_visible()
    tab_to(page, ".skip")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#main :focus")).to_have_count(1)
