"""What the page tells of a document: why it failed and what helps, warnings, its file, and indexing it again."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from tests.page.conftest import QUESTION, ask
from tests.support.corpus.pdfs import drawn
from tests.support.pdfs import write_pdf
from tests.support.processes import ROOT, wait_until
from tests.support.scans import text_of_its_own
from tests.support.service import HANDBOOK, Service


def _details(page: Page, service: Service, name: str) -> None:
    page.goto(f"{service.url}#/documents")
    row = page.get_by_role("region", name="List of documents").get_by_role("listitem").filter(has_text=name)
    row.get_by_role("button", name="More about this document").click()


def test_a_locked_document_says_what_helps(page: Page, service: Service, uploads: list[str], tmp_path: Path) -> None:
    locked = write_pdf(tmp_path / "locked.pdf", ["A secret of the keeper."], password="swordfish")
    uploads.append(service.upload(locked.name, locked.read_bytes()))
    _details(page, service, locked.name)
    dialog = page.get_by_role("dialog", name=locked.name)
    expect(dialog).to_contain_text("password")
    expect(dialog).to_contain_text("Save the document without its password, and send it again.")
    expect(dialog.locator("dl")).to_contain_text("failed")
    # Its name leads to the same, since there is nothing to look at.
    page.keyboard.press("Escape")
    page.get_by_role("button", name=locked.name, exact=True).click()
    expect(dialog).to_be_visible()


def test_warnings_lead_to_their_pages(page: Page, service: Service, uploads: list[str]) -> None:
    uploads.append(service.upload("crane.pdf", drawn(text_of_its_own, _empty_picture)()))
    page.goto(f"{service.url}#/documents")
    row = page.get_by_role("region", name="List of documents").get_by_role("listitem").filter(has_text="crane.pdf")
    expect(row).to_contain_text("2 pages")
    expect(row).to_contain_text("1 warning")
    _details(page, service, "crane.pdf")
    dialog = page.get_by_role("dialog", name="crane.pdf")
    expect(dialog).to_contain_text("Not all text of this document is searched:")
    expect(dialog.get_by_role("listitem")).to_have_text("page 2: a picture without text")
    dialog.get_by_role("link", name="page 2").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("heading", name="crane.pdf")).to_be_visible()
    expect(page.get_by_label("Page number")).to_have_value("2")
    expect(page.locator("figure.loaded")).to_be_visible()


def test_a_document_is_looked_at_and_its_file_saved(page: Page, service: Service, handbook_id: str) -> None:
    page.goto(f"{service.url}#/documents")
    page.get_by_role("button", name="handbook.pdf", exact=True).click()
    expect(page.get_by_role("img", name="Page 1")).to_be_visible()
    page.get_by_role("button", name="Close the document").click()
    expect(page.get_by_role("complementary", name="Document")).to_be_hidden()
    _details(page, service, "handbook.pdf")
    facts = page.get_by_role("dialog").locator("dl")
    upload = service.client.get(f"/uploads/{handbook_id}").json()
    for name, value in (("Pages", upload["pages"]), ("Passages", upload["chunks"]), ("Kind", "application/pdf")):
        expect(facts).to_contain_text(f"{name}{value}")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "handbook.pdf"
    assert saved.value.path().read_bytes() == HANDBOOK.read_bytes()


def test_a_document_is_indexed_again(page: Page, service: Service, uploads: list[str], tmp_path: Path) -> None:
    made = write_pdf(tmp_path / "again.pdf", ["The bell of Garrow rings twice."])
    uploads.append(service.upload(made.name, made.read_bytes()))
    before = service.client.get(f"/uploads/{uploads[0]}").json()["indexed_at"]
    _details(page, service, made.name)
    page.get_by_role("button", name="Index again").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_until(lambda: service.client.get(f"/uploads/{uploads[0]}").json()["indexed_at"] > before, what="the index")
    row = page.get_by_role("region", name="List of documents").get_by_role("listitem").filter(has_text=made.name)
    expect(row.get_by_text("1 page ·")).to_be_visible()


def test_a_document_is_asked_about_from_its_row(page: Page, service: Service, handbook_id: str) -> None:
    assert handbook_id
    page.goto(f"{service.url}#/documents")
    row = page.get_by_role("region", name="List of documents").get_by_role("listitem").filter(has_text="handbook.pdf")
    row.get_by_role("button", name="Ask about this document").click()
    expect(page.get_by_role("button", name="handbook.pdf", exact=True)).to_be_visible()
    with page.expect_request("**/chat") as asked:
        ask(page, QUESTION)
    assert handbook_id in (asked.value.post_data or "")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()


def test_each_reason_has_its_remedy() -> None:
    script = (ROOT / "page" / "document-details.js").read_text()
    guide = (ROOT / "docs" / "uploads.md").read_text()
    for constant, title in (("REMEDIES", "## Why an upload fails"), ("WARNINGS", "## Pages that could not be read")):
        section = guide.partition(title)[2].partition("\n## ")[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `") and "meaning" not in line]
        reasons = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        table = script.partition(f"const {constant} = {{")[2].partition("};")[0]
        assert set(re.findall(r"^  (\w+): ", table, re.MULTILINE)) == reasons


def _empty_picture(canvas: Canvas) -> None:
    """Draw a picture without words."""
    picture = Image.new("RGB", (400, 200), "navy")
    ImageDraw.Draw(picture).ellipse((100, 50, 300, 150), fill="orange")
    canvas.drawImage(ImageReader(picture), 0, 200, width=400, height=200)
