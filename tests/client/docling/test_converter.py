"""Documents that a docling-serve reads: pictures of pages, further kinds, and what happens when the service fails."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from client.docling import converter as converter_module
from client.docling.converter import FAILURES, PAUSE_SECONDS, DoclingConverter
from client.llm.deadline import Deadline, apply_deadline
from errors import DocumentError, JobStopped
from rag.ingest.formats.docling import docling_pages
from server import create_app
from settings import Settings
from tests.api.test_uploads import ask, post, state, uploaded
from tests.conftest import MakeSettings
from tests.support.corpus.pdfs import drawn
from tests.support.docling_stub import DoclingStub, docling, docling_stub, table, text
from tests.support.openai_stub import serving
from tests.support.scans import encoded, scan, scanned, text_of_its_own, without_tesseract
from tests.support.workers import work

LETTER = [
    text("Harbour Office", "section_header"),
    text("The keeper counts seventeen ships."),
    text("Fees are due in May.", "list_item", marker="1."),
    table(["Berth", "Fee"], ["North", "35"], ["South", "28"], captions=[{"$ref": "#/texts/3"}]),
    text("Table 1: Fees of 2024", "caption"),
]
LETTER_TEXT = (
    "Harbour Office\n\nThe keeper counts seventeen ships.\n\n1. Fees are due in May.\n\nTable 1: Fees of 2024\n\n"
    "Berth | Fee\nBerth: North | Fee: 35\nBerth: South | Fee: 28"
)


@pytest.fixture(scope="module")
def service() -> Iterator[DoclingStub]:
    with docling_stub() as stub:
        yield stub


@pytest.fixture
def stub(service: DoclingStub) -> DoclingStub:
    """The service, without what an earlier test left."""
    service.behaviour.__init__()  # type: ignore[misc]
    return service


@pytest.fixture
def settings(make_settings: MakeSettings, stub: DoclingStub, valkey_url: str) -> Settings:
    return make_settings(valkey_url=valkey_url, document_converter_url=stub.url, document_converter_api_key="secret")


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


def odt() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        archive.writestr("content.xml", "<x/>")
    return out.getvalue()


def test_scanned_pages_and_images_are_converted_from_their_pictures(
    api: httpx.Client, settings: Settings, stub: DoclingStub, tmp_path: Path
) -> None:
    stub.behaviour.key = "secret"
    stub.behaviour.documents = [docling(LETTER), docling([]), docling([text("The second frame is short.")])]
    with without_tesseract(tmp_path):
        scans = uploaded(api, ("scan.pdf", drawn(text_of_its_own, scanned(), scanned(90))()))
        image = uploaded(api, ("scan.png", encoded(scan(), "PNG")))
        work(settings)
        assert [name for name, _ in stub.behaviour.files] == ["page-2.png", "page-3.png", "page-1.png"]
        assert Image.open(io.BytesIO(stub.behaviour.files[0][1])).size == (1654, 1654)
        assert {option["to_formats"][0] for option in stub.behaviour.options} == {"json"}
        found = state(api, scans)
        assert (found["status"], found["pages"]) == ("ready", 3)
        assert [(warning["page"], warning["reason"]) for warning in found["warnings"]] == [(3, "no_text")]
        assert state(api, image)["status"] == "ready"
        page = api.get(f"/uploads/{scans}/pages/2/text").json()
        assert (page["text"], page["picture"], page["page_label"]) == (LETTER_TEXT, True, "2")
        result = ask(api, settings, "What is the fee of the South berth?")
        assert result["sources"][0]["page"] == 2
        assert "Berth: South | Fee: 28" in result["sources"][0]["quote"]


def test_further_kinds_are_read_whole_with_their_pages(
    api: httpx.Client, settings: Settings, stub: DoclingStub
) -> None:
    stub.behaviour.documents = [
        docling([text("Before any page.", page=None), text("The tide turns at noon."), text("Gulls nest.", page=4)]),
        docling([text("No pages here, but sixteen boats.", page=None)]),
    ]
    slides = uploaded(api, ("slides.ppt", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))
    work(settings)
    data = odt()
    letter = uploaded(api, ("letter.odt", data))
    work(settings)
    assert [name for name, _ in stub.behaviour.files] == ["slides.ppt", "letter.odt"]
    assert stub.behaviour.files[1][1] == data
    assert (state(api, slides)["status"], state(api, slides)["pages"]) == ("ready", 4)
    assert api.get(f"/uploads/{slides}/pages/1/text").json()["text"] == "Before any page.\n\nThe tide turns at noon."
    assert api.get(f"/uploads/{slides}/pages/4/text").json()["text"] == "Gulls nest."
    assert api.get(f"/uploads/{slides}/pages/2/text").status_code == 404
    assert state(api, letter)["media_type"] == "application/vnd.oasis.opendocument.text"
    assert ask(api, settings, "How many boats are there?")["sources"][0]["page"] == 1


def test_without_the_service_its_kinds_are_refused_with_a_sentence(
    make_settings: MakeSettings, valkey_url: str
) -> None:
    with (
        serving(create_app(make_settings(valkey_url=valkey_url))) as url,
        httpx.Client(base_url=url, timeout=10) as api,
    ):
        refused = post(api, ("letter.odt", odt()))
    assert refused.status_code == 415
    assert "DOCUMENT_CONVERTER_URL" in refused.json()["detail"]


def test_what_the_service_cannot_do_is_a_reason_or_a_warning(
    api: httpx.Client, settings: Settings, stub: DoclingStub, tmp_path: Path
) -> None:
    stub.behaviour.failure = "The file is damaged."
    with without_tesseract(tmp_path):
        mixed = uploaded(api, ("mixed.pdf", drawn(text_of_its_own, scanned())()))
        alone = uploaded(api, ("alone.pdf", drawn(scanned())()))
        letter = uploaded(api, ("letter.odt", odt()))
        work(settings)
        assert state(api, mixed)["status"] == "ready"
        assert [warning["reason"] for warning in state(api, mixed)["warnings"]] == ["conversion_failed"]
        for upload_id in (alone, letter):
            failed = state(api, upload_id)
            assert (failed["status"], failed["reason"]) == ("failed", "conversion_failed")
            assert "could not convert the file (The file is damaged.)" in failed["error"]
        stub.behaviour.failure, stub.behaviour.key = "", "another"
        api.post(f"/uploads/{letter}/reindex")
        work(settings)
        assert "rejected DOCUMENT_CONVERTER_API_KEY" in state(api, letter)["error"]
        stub.behaviour.key, stub.behaviour.documents = "", [docling([text("\ue001\ue002\ue003 " * 40)])]
        api.post(f"/uploads/{letter}/reindex")
        work(settings)
        assert state(api, letter)["reason"] == "unreadable_text", "the text goes through the test of all texts"


def test_a_service_that_is_away_is_asked_again_and_then_left_alone(stub: DoclingStub) -> None:
    now = [0.0]
    converter = DoclingConverter(stub.url, retry_seconds=(0.0, 0.0), clock=lambda: now[0])
    stub.behaviour.documents = [docling([text("Words.")])]
    stub.behaviour.fail_next = [503, 502]
    assert converter.convert(b"x", "a.odt")[0].text.text == "Words."
    stub.behaviour.fail_next = [500] * 3 * FAILURES
    for _ in range(FAILURES):
        with pytest.raises(DocumentError, match="answered 500"):
            converter.convert(b"x", "a.odt")
    asked = stub.behaviour.requests
    with pytest.raises(DocumentError, match="not asked again"):
        converter.convert(b"x", "a.odt")
    assert stub.behaviour.requests == asked
    now[0] += PAUSE_SECONDS
    assert converter.convert(b"x", "a.odt")[0].text.text == "Words."


@pytest.mark.parametrize(("status", "said"), [(422, "answered 422"), (413, "limits of the service"), (404, "_URL")])
def test_a_refusal_is_not_tried_again(status: int, said: str, stub: DoclingStub) -> None:
    stub.behaviour.fail_next = [status]
    with pytest.raises(DocumentError, match=said):
        DoclingConverter(stub.url).convert(b"x", "a.odt")
    assert stub.behaviour.requests == 1


def test_sizes_and_times_are_bounded_and_a_stopped_job_ends(stub: DoclingStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converter_module, "MAX_FILE_BYTES", 1_000_000)
    converter = DoclingConverter(stub.url, retry_seconds=())
    with pytest.raises(DocumentError, match="larger than 0 MiB"):
        converter.convert(bytes(1_000_001), "a.odt")
    stub.behaviour.documents = [docling([text("x" * 2_000_000)])]
    monkeypatch.setattr(converter_module, "MAX_RESULT_BYTES", 1_000_000)
    with pytest.raises(DocumentError, match="result is larger"):
        converter.convert(b"x", "a.odt")
    ticks = iter(range(0, 100_000, 300))
    slow = DoclingConverter(stub.url, retry_seconds=(), clock=lambda: float(next(ticks)))
    stub.behaviour.polls = 1_000
    with pytest.raises(DocumentError, match="longer than 600 s"):
        slow.convert(b"x", "a.odt")
    deadline = Deadline()
    deadline.stop()
    with apply_deadline(deadline), pytest.raises(JobStopped):
        converter.convert(b"x", "a.odt")
    with pytest.raises(DocumentError, match="cannot be reached"):
        DoclingConverter("http://127.0.0.1:9", retry_seconds=()).convert(b"x", "a.odt")


SHAPES: dict[str, Any] = {
    "nothing": {},
    "a circle": {
        "body": {"children": [{"$ref": "#/texts/0"}]},
        "texts": [text("a") | {"children": [{"$ref": "#/texts/0"}]}],
    },
    "a missing item": {"body": {"children": [{"$ref": "#/texts/7"}, {"$ref": "no"}, 3]}, "texts": []},
    "a table of lies": docling(
        [table(["a", "b"]) | {"data": {"table_cells": [{"text": 3, "end_col_offset_idx": 10**12}, 5]}}]
    ),
    "other types": {"body": [], "texts": "abc"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_of_another_shape_breaks_nothing(name: str) -> None:
    assert len(docling_pages(SHAPES[name])) <= 1


def test_a_header_over_two_columns_is_given_to_both() -> None:
    wide = table(["", "2023", ""], ["Port", "Ships", "Boats"], ["Riga", "3", "4"], headers=2)
    cells = wide["data"]["table_cells"]
    cells[1] |= {"end_col_offset_idx": 3, "col_span": 2}
    del cells[2]
    (page,) = docling_pages(docling([wide]))
    assert page.text.text.splitlines()[-1] == "Port: Riga | 2023 Ships: 3 | 2023 Boats: 4"
