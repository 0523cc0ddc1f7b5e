"""Pages of uploads over HTTP: pictures, texts, the boxes of quotes, and what is kept of them."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import httpx
import PIL.Image

from client.files.page_cache import MAX_AGE_SECONDS, PageCache
from settings import Settings
from tests.api.test_uploads import ask, uploaded
from tests.support.workers import work


def test_a_source_leads_to_its_place_on_the_picture_of_its_page(
    api: httpx.Client, settings: Settings, pdf: Path
) -> None:
    upload_id = uploaded(api, pdf)
    work(settings)
    (source, *_) = ask(api, settings, "How far is the lamp seen?")["sources"]
    page = f"/uploads/{source['upload_id']}/pages/{source['page']}"
    text = api.get(f"{page}/text").json()
    assert (text["page"], text["pages"], text["page_label"], text["picture"]) == (2, 3, "2", True)
    assert text["text"][source["start"] : source["end"]] == source["quote"]
    placed = {run[0] + at for run in text["runs"] for at in range(len(run) - 4)}
    assert placed == {at for at, char in enumerate(text["text"]) if char != "\n"}

    span = {"start": source["start"], "end": source["end"]}
    by_span = api.get(f"{page}/boxes", params=span).json()
    by_quote = api.get(
        f"{page}/boxes", params={"quote": source["quote"].replace(" ", "\n"), "start": 0, "end": 3}
    ).json()
    assert by_span == by_quote
    assert {name: by_span[name] for name in span} == span
    assert by_span["boxes"]
    for box in by_span["boxes"]:
        assert 0 < box["left"] < box["right"] < text["width"]
        assert 0 < box["top"] < box["bottom"] < text["height"]
    assert api.get(f"{page}/boxes", params={"quote": "not on this page"}).json()["boxes"] == []

    for kind in ("webp", "png"):
        picture = api.get(page, params={"width": 640, "format": kind})
        assert picture.headers["content-type"] == f"image/{kind}"
        assert PIL.Image.open(io.BytesIO(picture.content)).width == 640
        again = api.get(page, params={"width": 640, "format": kind}, headers={"If-None-Match": picture.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", picture.headers["etag"])
    kept = settings.pages_dir / upload_id
    assert len(list(kept.iterdir())) == 3  # two pictures and a text
    api.delete(f"/uploads/{upload_id}")
    assert not kept.exists()
    assert api.get(page).status_code == 404


REFUSALS = {
    "pages/4": (404, "no page 4: it has 3"),
    "pages/4/text": (404, "no page 4: it has 3"),
    "pages/0": (422, "page"),
    "pages/1?width=100000": (422, "width"),
    "pages/1?format=gif": (422, "format"),
    "pages/1/boxes": (422, "quote"),
    "pages/1/boxes?start=5&end=5": (422, "end"),
    "pages/1/boxes?start=0&end=99999": (422, "length of the page"),
}


def test_what_cannot_be_shown_is_refused_with_a_sentence(api: httpx.Client, pdf: Path) -> None:
    upload_id = uploaded(api, pdf)
    for path, (status, told) in REFUSALS.items():
        answer = api.get(f"/uploads/{upload_id}/{path}")
        assert (answer.status_code, answer.json()["status"]) == (status, status), path
        assert told in answer.text, path
    note = uploaded(api, ("note.txt", b"The lamp turns once in twelve seconds."))
    text = api.get(f"/uploads/{note}/pages/1/text").json()
    assert (text["text"], text["picture"], text["runs"]) == ("The lamp turns once in twelve seconds.", False, [])
    assert "…/text" in api.get(f"/uploads/{note}/pages/1").json()["detail"]
    assert api.get(f"/uploads/{note}/pages/1/boxes", params={"quote": "lamp turns"}).json()["start"] == 4


def test_the_cache_keeps_what_was_used_last_within_its_bounds(tmp_path: Path) -> None:
    cache = PageCache(tmp_path, max_bytes=1_000)
    for number in range(5):
        cache.put("a", str(number), bytes(190))
        os.utime(tmp_path / "a" / str(number), (time.time() - 100 + number,) * 2)
    assert cache.get("a", "0") == bytes(190)
    cache.put("b", "new", bytes(300))
    assert [name for name in map(str, range(5)) if cache.get("a", name)] == ["0", "4"]
    old = time.time() - MAX_AGE_SECONDS - 1
    os.utime(tmp_path / "b" / "new", (old, old))
    cache.trim()
    assert not (tmp_path / "b").exists()
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 1_000
