"""The documents: sending them, what becomes of them, and a list of ten thousand."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Service
from tests.support.openai_stub import Behaviour
from tests.support.pdfs import write_pdf
from tests.support.processes import wait_until

MANY = 10_000


def test_files_are_sent_read_and_deleted_with_undo(page: Page, service: Service, tmp_path: Path) -> None:
    good = write_pdf(tmp_path / "tides of Brindle.pdf", ["High water at Brindle Point is at six."])
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    page.goto(f"{service.url}#/documents")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add files").click()
    chooser.value.set_files([good, empty])

    rows = page.get_by_role("region", name="List of documents").get_by_role("listitem")
    row, failed = rows.filter(has_text=good.name), rows.filter(has_text=empty.name)
    expect(row.get_by_text("1 page ·")).to_be_visible()
    expect(failed.locator(".state.failed")).to_contain_text("holds no text")

    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row.get_by_text("1 page ·")).to_be_visible()

    row.get_by_role("button", name="Delete").click()
    page.locator(".toast").filter(has_text="is deleted").get_by_role("button", name="Dismiss").click()
    wait_until(lambda: good.name not in service.client.get("/uploads").text, what="the deletion")


def test_files_are_dropped_anywhere(page: Page, service: Service) -> None:
    page.goto(service.url)
    transfer = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["The ferry to Quillfeather leaves at noon."], "ferry.txt"));
            return transfer;
        }"""
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop files or folders to add them")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop files or folders to add them")).to_be_hidden()
    expect(page.get_by_role("region", name="Files on their way")).to_contain_text("ferry.txt")
    expect(page.get_by_role("region", name="Files on their way")).to_contain_text("1 page")


def test_a_collection_is_filled_and_searched(page: Page, service: Service, model: Behaviour, tmp_path: Path) -> None:
    page.goto(f"{service.url}#/documents")
    page.get_by_label("Collection that new files join").fill("Islands")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add files").click()
    merrow = tmp_path / "merrow.txt"
    merrow.write_text("The island of Merrow has two wells. Its ferry leaves at dawn.")
    chooser.value.set_files([merrow])
    rows = page.get_by_role("region", name="List of documents").get_by_role("listitem")
    expect(rows.filter(has_text="merrow.txt").get_by_text("1 page ·")).to_be_visible()

    model.answer = "The island of Merrow has two wells [1]."
    page.get_by_role("link", name="Ask", exact=True).click()
    page.get_by_role("button", name="All documents").click()
    page.get_by_role("dialog").get_by_role("combobox").select_option("Islands")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Islands")).to_be_visible()
    page.get_by_label("Question", exact=True).fill("How many wells has the island of Merrow?")
    with page.expect_request("**/chat") as asked:
        page.keyboard.press("Enter")
    assert json.loads(asked.value.post_data or "{}")["collection"] == "Islands"
    expect(page.get_by_role("list", name="Sources").get_by_role("button").first).to_contain_text("merrow.txt")


def test_ten_thousand_documents(page: Page, service: Service) -> None:
    page.route("**/uploads?*", _many)
    page.goto(f"{service.url}#/documents")
    scroller = page.get_by_role("region", name="List of documents")
    expect(scroller.get_by_text("document 0.pdf")).to_be_visible()
    last = scroller.get_by_text(f"document {MANY - 1}.pdf")

    def at_the_end() -> bool:
        scroller.evaluate("(node) => node.scrollTo(0, node.scrollHeight)")
        return last.is_visible()

    wait_until(at_the_end, what="the last document")
    assert scroller.get_by_role("listitem").count() < 50


def _many(route: Route) -> None:
    query = parse_qs(urlsplit(route.request.url).query)
    start, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
    numbers = range(start, min(start + limit, MANY))
    uploads = [
        {
            "upload_id": f"id-{number}",
            "name": f"document {number}.pdf",
            "media_type": "application/pdf",
            "status": "ready",
            "bytes": 1000,
            "sha256": "",
            "pages": 3,
            "pages_done": 3,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "searched": True,
        }
        for number in numbers
    ]
    following = str(numbers.stop) if numbers.stop < MANY else None
    route.fulfill(content_type="application/json", body=json.dumps({"uploads": uploads, "next": following}))
