"""Scanned pages over HTTP: shown with quotes by a server without tesseract, and kept in step with the index."""

from __future__ import annotations

import io
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from client.sql.database import Database
from client.sql.recognized_pages import RecognizedPageRow
from settings import Settings
from tests.api.test_uploads import ask, state, uploaded
from tests.support.corpus.pdfs import drawn
from tests.support.scans import LINES, encoded, require_tesseract, scan, scanned, text_of_its_own, without_tesseract
from tests.support.workers import work


def rows(settings: Settings) -> int:
    with closing(Database(settings)) as database, database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(RecognizedPageRow)).scalar_one())


def text_of(api: httpx.Client, upload_id: str, page: int) -> dict[str, Any]:
    return dict(api.get(f"/uploads/{upload_id}/pages/{page}/text").json())


def test_a_quote_of_a_scan_is_shown_without_recognizing_the_page_again(
    api: httpx.Client, settings: Settings, tmp_path: Path
) -> None:
    require_tesseract()
    upload_id = uploaded(api, ("scan.pdf", drawn(text_of_its_own, scanned(), scanned(90))()))
    work(settings)
    (source, *_) = ask(api, settings, "How many ships does the lighthouse keeper count?")["sources"]
    assert "seventeen ships" in source["quote"]
    with without_tesseract(tmp_path):
        upright, turned = (text_of(api, upload_id, page) for page in (2, 3))
        for shown in (upright, turned):
            assert shown["text"].split() == " ".join(LINES).split()
            assert (shown["pages"], shown["picture"], shown["width"], shown["height"]) == (3, True, 400, 400)
        first, *_ = api.get(f"/uploads/{upload_id}/pages/2/boxes", params={"quote": "seventeen"}).json()["boxes"]
        # The word stands at (60, 165) of 1,000 x 500 pixels, which fill the width of the page and half its height.
        assert [first["left"], first["top"]] == pytest.approx([24, 66], abs=6)
        boxes = api.get(
            f"/uploads/{source['upload_id']}/pages/{source['page']}/boxes",
            params={"start": source["start"], "end": source["end"]},
        ).json()
        assert (boxes["start"], boxes["end"]) == (source["start"], source["end"])
        assert len(boxes["boxes"]) >= 1
        assert text_of(api, upload_id, 1)["text"].strip() == "The crane lifts forty tonnes."

        # Indexed again by a worker without tesseract, the scans have no text; and none is shown of them.
        assert rows(settings) == 2
        api.post(f"/uploads/{upload_id}/reindex")
        assert text_of(api, upload_id, 2)["text"].split() == " ".join(LINES).split(), "the index has it until then"
        work(settings)
        assert [warning["page"] for warning in state(api, upload_id)["warnings"]] == [2, 3]
        assert text_of(api, upload_id, 2)["text"] == ""
        assert rows(settings) == 0
    api.post(f"/uploads/{upload_id}/reindex")
    work(settings)
    assert text_of(api, upload_id, 3)["text"].split() == " ".join(LINES).split()
    assert rows(settings) == 2
    api.delete(f"/uploads/{upload_id}")
    work(settings)
    assert rows(settings) == 0


def test_images_and_scans_in_a_zip_are_shown_without_recognizing_them_again(
    api: httpx.Client, settings: Settings, tmp_path: Path
) -> None:
    require_tesseract()
    frames = encoded(scan(turned=90), "TIFF", scan("The second frame"))
    image = uploaded(api, ("scan.tiff", frames))
    packed = uploaded(api, ("all.zip", zipped({"a.tiff": frames, "b.txt": b"The tide turns at noon."})))
    work(settings)
    with without_tesseract(tmp_path):
        one, two = (text_of(api, image, page) for page in (1, 2))
        assert (one["width"], one["height"], two["width"], two["height"]) == (500, 1000, 1000, 500)
        assert two["text"] == "The second frame"
        assert [run[0] for run in two["runs"]] == [0, 4, 11]
        inside = [text_of(api, packed, page) for page in (1, 2, 3)]
        assert [page["text"] for page in inside] == [one["text"], two["text"], "The tide turns at noon."]
        assert [(page["picture"], page["runs"]) for page in inside] == [(False, [])] * 3


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()
