"""The documents: sending them, what becomes of them, and a list of ten thousand."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Watched, drop, wait_for_requests
from tests.support.openai_stub import Behaviour
from tests.support.pdfs import write_pdf
from tests.support.processes import wait_until
from tests.support.service import Service

MANY = 10_000
ROW_PX = 64
PROBLEM = "application/problem+json"


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


def test_a_folder_is_dropped_and_chosen_with_all_that_is_in_it(page: Page, service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "island"
    texts = {
        "ports/north.txt": "Northport",
        "ports/far/south.txt": "Southport",
        "wells.txt": "Two wells",
        ".hidden": "x",
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}, says the guide of the island.")
    loose = tmp_path / "loose.txt"
    loose.write_text("A leaf that lies beside the folder.")
    page.goto(service.url)
    drop(page, folder, loose)
    tray = page.get_by_role("region", name="Files on their way")
    expect(tray.get_by_role("heading")).to_have_text("4 files ready")
    sent = {row["name"] for row in service.client.get("/uploads", params={"limit": 4}).json()["uploads"]}
    assert sent == {"north.txt", "south.txt", "wells.txt", "loose.txt"}

    page.goto(f"{service.url}#/documents")
    page.reload()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add folder").click()
    chooser.value.set_files(folder)
    expect(tray.get_by_text("already here")).to_have_count(3)


def test_files_wait_while_the_server_asks_to_wait(
    page: Page, service: Service, watched: Watched, tmp_path: Path
) -> None:
    watched.expected = ["429"]
    refusals = [3]
    detail = "7 of your jobs may wait at a time (MAX_QUEUED_JOBS): try again when some of them have started"

    def refuse(route: Route) -> None:
        if route.request.method != "POST" or not refusals:
            return route.continue_()
        headers = {"Retry-After": str(refusals.pop(0))}
        return route.fulfill(status=429, headers=headers, content_type=PROBLEM, body=json.dumps({"detail": detail}))

    page.route("**/uploads", refuse)
    note, other = tmp_path / "patient.txt", tmp_path / "refused.txt"
    note.write_text("A patient note.")
    other.write_text("A note that may not come today.")
    page.goto(service.url)
    drop(page, note)
    row = page.get_by_role("region", name="Files on their way").get_by_role("listitem")
    expect(row).to_contain_text(f"waiting: {detail}")
    expect(row).to_contain_text("1 page")
    assert refusals == []
    # Nobody waits for hours.
    refusals.append(7_200)
    drop(page, other)
    expect(row.filter(has_text="refused.txt").locator(".state")).to_have_text(detail)


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

    wait_until(at_the_end, seconds=60, what="the last document")
    assert scroller.get_by_role("listitem").count() < 50

    # Wherever the list is scrolled to, its rows are those of the place, and no more of them are in the page.
    height = ROW_PX * MANY
    assert scroller.evaluate("(node) => node.scrollHeight") == pytest.approx(height, abs=2)
    for number in (5_000, 17, 9_321, 123, 7_777, 0):
        scroller.evaluate("(node, top) => node.scrollTo(0, top)", number * ROW_PX)
        row = scroller.get_by_role("listitem").filter(has=page.get_by_text(f"document {number}.pdf", exact=True))
        expect(row).to_be_in_viewport()
        expect(row).to_have_attribute("aria-posinset", str(number + 1))
        expect(row).to_have_attribute("aria-setsize", str(MANY))
        box, frame = row.bounding_box(), scroller.bounding_box()
        assert box is not None
        assert frame is not None
        assert box["y"] - frame["y"] == pytest.approx(0, abs=2)
        assert scroller.get_by_role("listitem").count() < 50

    # In small steps only the rows that come into sight are made, each once: 300 steps pass 810 rows.
    made = scroller.evaluate(
        """(node) => new Promise((done) => {
            let steps = 0;
            let made = 0;
            const count = (changes) => changes.forEach((one) => (made += one.addedNodes.length));
            new MutationObserver(count).observe(node.querySelector("ul"), { childList: true });
            const step = () => {
                if (steps === 300) return done(made);
                node.scrollTo(0, (steps += 1) * 173);
                requestAnimationFrame(step);
            };
            step();
        })"""
    )
    assert 800 < made < 900


def test_a_list_that_is_filtered_while_files_arrive_shows_no_others(
    page: Page, service: Service, tmp_path: Path
) -> None:
    held: list[Route] = []

    def answer(route: Route) -> None:
        failed = "status=failed" in route.request.url
        if failed and not held:
            held.append(route)  # the list of the filter stays away
        else:
            _many(route, prefix="failed" if failed else "document")

    page.route("**/uploads?*", answer)
    page.goto(f"{service.url}#/documents")
    rows = page.get_by_role("region", name="List of documents").get_by_role("listitem")
    expect(rows.first).to_contain_text("document 0.pdf")
    page.get_by_label("Status").select_option("failed")
    wait_for_requests(page, held)
    note = tmp_path / "late.txt"
    note.write_text("A file that arrives meanwhile.")
    drop(page, note)
    expect(rows.first).to_contain_text("failed 0.pdf")
    rows.first.locator("xpath=ancestor::div[1]").evaluate("(node) => node.scrollTo(0, 120 * 64)")
    expect(rows.filter(has_text="failed 120.pdf")).to_be_visible()
    expect(rows.filter(has_text="document")).to_have_count(0)


def _many(route: Route, *, prefix: str = "document") -> None:
    query = parse_qs(urlsplit(route.request.url).query)
    start, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
    numbers = range(start, min(start + limit, MANY))
    uploads = [
        {
            "upload_id": f"id-{number}",
            "name": f"{prefix} {number}.pdf",
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
