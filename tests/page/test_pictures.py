"""Pictures that are sent: each is shown with the words of a quote marked on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import ask, drop
from tests.support.scans import encoded, require_tesseract, scan
from tests.support.service import Service, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with nothing set, and OCR by the tesseract of this machine."""
    with running_service(tmp_path_factory.mktemp("pictures")) as started:
        yield started


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_picture_is_shown_with_the_words_of_the_quote(
    page: Page, service: Service, tmp_path: Path, kind: str
) -> None:
    require_tesseract()
    words = "The buoy of Fennick" if kind == "PNG" else "The buoy of Garrow"
    (tmp_path / f"buoy.{kind.lower()}").write_bytes(encoded(scan(f"{words} is painted red.", "It rings in fog."), kind))
    page.goto(service.url)
    drop(page, tmp_path / f"buoy.{kind.lower()}")
    expect(page.get_by_role("region", name="Files on their way")).to_contain_text("1 page")
    ask(page, f"Which colour has {words.lower()}?")
    page.get_by_role("list", name="Sources").get_by_role("button").filter(has_text=f"buoy.{kind.lower()}").click()
    picture = page.get_by_role("img", name="Page 1")
    expect(picture).to_be_visible()
    expect(page.locator("figure.loaded .mark").first).to_be_visible()
    assert picture.evaluate("(image) => image.naturalWidth") > 0
