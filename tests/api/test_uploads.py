"""Documents over HTTP: uploaded, indexed, listed, downloaded, indexed again and deleted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from settings import Settings
from tests.support.pdfs import write_pdf
from tests.support.workers import work, worker_services

LONGEST = 30


def post(api: httpx.Client, *files: Path | tuple[str, bytes], **fields: str) -> httpx.Response:
    """Upload files, given as paths or as names and bytes."""
    named = [(file.name, file.read_bytes()) if isinstance(file, Path) else file for file in files]
    return api.post("/uploads", files=[("file", one) for one in named], params=fields)


def uploaded(api: httpx.Client, *files: Path | tuple[str, bytes], **fields: str) -> str:
    """Upload a file; return its id."""
    response = post(api, *files, **fields)
    assert response.status_code == 202, response.text
    return str(response.json()["upload_id"])


def state(api: httpx.Client, upload_id: str) -> dict[str, Any]:
    return dict(api.get(f"/uploads/{upload_id}").json())


def ask(api: httpx.Client, settings: Settings, question: str, **fields: Any) -> dict[str, Any]:
    """Ask, run the job, and return the result."""
    accepted = api.post("/chat", json={"query": question} | fields)
    assert accepted.status_code == 202, accepted.text
    work(settings)
    return dict(api.get(f"/result/{accepted.json()['job_id']}").json())


def test_an_upload_is_accepted_indexed_and_found(api: httpx.Client, settings: Settings, pdf: Path) -> None:
    response = post(api, pdf)
    assert response.status_code == 202
    body = response.json()
    assert body["uploads"] == [{key: body[key] for key in ("upload_id", "job_id", "name", "status", "duplicate")}]
    assert (body["name"], body["status"], body["duplicate"]) == ("lighthouse.pdf", "queued", False)
    assert response.headers["location"] == f"/uploads/{body['upload_id']}"
    waiting = state(api, body["upload_id"])
    assert (waiting["status"], waiting["pages_done"]) == ("queued", 0)
    assert "indexed_at" not in waiting

    work(settings)
    ready = state(api, body["upload_id"])
    assert (ready["status"], ready["pages"], ready["pages_done"], ready["chunks"]) == ("ready", 3, 3, 3)
    assert ready["bytes"] == pdf.stat().st_size
    assert ready["sha256"] == hashlib.sha256(pdf.read_bytes()).hexdigest()
    assert ready["media_type"] == "application/pdf"
    assert api.get(f"/job-status/{body['job_id']}").json()["result"] == "lighthouse.pdf: 3 pages, 3 chunks stored"
    result = ask(api, settings, "When was the lighthouse built?")
    assert "1887" in result["result"]
    assert result["sources"][0]["upload_id"] == body["upload_id"]


def test_the_result_of_a_single_page_is_in_the_singular(api: httpx.Client, settings: Settings) -> None:
    job_id = post(api, ("note.txt", b"The lamp turns once in twelve seconds.")).json()["job_id"]
    work(settings)
    assert api.get(f"/result/{job_id}").json()["result"] == "note.txt: 1 page, 1 chunk stored"


def test_the_file_comes_back_as_it_was(api: httpx.Client, pdf: Path) -> None:
    upload_id = uploaded(api, ('dir/evil"\r\nname.pdf', pdf.read_bytes()))
    response = api.get(f"/uploads/{upload_id}/file")
    assert response.content == pdf.read_bytes()
    assert response.headers["content-type"] == "application/pdf"
    assert response.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_several_files_are_listed_newest_first_page_by_page(api: httpx.Client, tmp_path: Path) -> None:
    files = [write_pdf(tmp_path / f"report-{n}.pdf", [f"Report number {n}."]) for n in range(5)]
    body = post(api, *files).json()
    assert "upload_id" not in body
    ids = [one["upload_id"] for one in body["uploads"]]
    listed: list[str] = []
    cursor: str | None = None
    while True:
        page = api.get("/uploads", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        listed += [one["upload_id"] for one in page["uploads"]]
        cursor = page.get("next")
        if cursor is None:
            break
    assert listed == ids[::-1]
    assert [one["name"] for one in api.get("/uploads", params={"name": "PORT-3"}).json()["uploads"]] == ["report-3.pdf"]
    assert api.get("/uploads", params={"name": "%"}).json()["uploads"] == []
    assert len(api.get("/uploads", params={"status": "queued"}).json()["uploads"]) == 5
    assert api.get("/uploads", params={"status": "ready"}).json()["uploads"] == []


@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"cursor": "nonsense"}, "cursor"), ({"status": "gone"}, "status"), ({"limit": "0"}, "limit")],
)
def test_a_wrong_list_request_is_a_422(api: httpx.Client, parameters: dict[str, str], field: str) -> None:
    response = api.get("/uploads", params=parameters)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("upload_id", ["nonsense", "0190a8c4-1d2e-7c3a-9f00-0123456789ab", "%00"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/file"), ("DELETE", ""), ("POST", "/reindex")],
)
def test_an_unknown_upload_is_a_404(api: httpx.Client, method: str, path: str, upload_id: str) -> None:
    response = api.request(method, f"/uploads/{upload_id}{path}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_unsupported_files_are_a_415(api: httpx.Client, pdf: Path) -> None:
    music = ("song.mp3", b"ID3\x04" + bytes(100))
    assert post(api, music).status_code == 415
    assert "PDF, DOCX, PPTX" in post(api, music).json()["detail"]
    assert post(api, ("report.pdf", b"<html>not found</html>")).status_code == 415
    both = post(api, pdf, music)
    assert both.status_code == 415
    assert "number 2" in both.json()["detail"]
    assert api.get("/uploads").json()["uploads"] == []


def test_empty_and_missing_files_are_a_422(api: httpx.Client) -> None:
    assert post(api, ("empty.pdf", b"")).status_code == 422
    assert api.post("/uploads").status_code == 422
    assert api.post("/uploads", json={"file": "x"}).status_code == 422


def test_the_same_file_again_is_skipped_replaced_or_kept(api: httpx.Client, settings: Settings, pdf: Path) -> None:
    first = uploaded(api, pdf)
    work(settings)
    skipped = post(api, pdf)
    assert skipped.status_code == 202
    assert (skipped.json()["upload_id"], skipped.json()["duplicate"]) == (first, True)

    replaced = post(api, ("renamed.pdf", pdf.read_bytes()), on_duplicate="replace")
    assert replaced.status_code == 202
    assert (replaced.json()["upload_id"], replaced.json()["name"]) == (first, "renamed.pdf")
    work(settings)
    assert state(api, first)["status"] == "ready"
    assert ask(api, settings, "When was the lighthouse built?")["sources"][0]["name"] == "renamed.pdf"

    kept = uploaded(api, pdf, on_duplicate="keep")
    assert kept != first
    assert len(api.get("/uploads").json()["uploads"]) == 2
    assert len(list(settings.files_dir.iterdir())) == 2


def test_a_skipped_duplicate_of_a_failed_upload_is_indexed_again(
    api: httpx.Client, settings: Settings, tmp_path: Path
) -> None:
    blank = write_pdf(tmp_path / "blank.pdf", [""])
    first = uploaded(api, blank)
    work(settings)
    assert state(api, first)["reason"] == "no_text"
    again = post(api, blank)
    assert again.status_code == 202
    assert (again.json()["upload_id"], again.json()["status"]) == (first, "queued")


def test_a_deleted_upload_leaves_answers_at_once_and_storage_later(
    api: httpx.Client, settings: Settings, pdf: Path
) -> None:
    upload_id = uploaded(api, pdf)
    work(settings)
    asked = api.post("/chat", json={"query": "When was the lighthouse built?", "priority": "high"}).json()["job_id"]
    deleted = api.delete(f"/uploads/{upload_id}")
    assert (deleted.status_code, deleted.json()["status"]) == (202, "deleting")
    assert api.delete(f"/uploads/{upload_id}").json()["job_id"] == deleted.json()["job_id"]
    assert api.post(f"/uploads/{upload_id}/reindex").status_code == 404
    work(settings, jobs=1)  # the question alone: the points are still there
    with worker_services(settings) as use:
        assert use.store.count_by_upload() == {("local", upload_id): 3}
    assert "1887" not in api.get(f"/result/{asked}").json()["result"]

    work(settings)
    assert api.get(f"/uploads/{upload_id}").status_code == 404
    assert api.get("/uploads").json()["uploads"] == []
    assert list(settings.files_dir.iterdir()) == []
    with worker_services(settings) as use:
        assert use.store.count_by_upload() == {}
    assert api.get(f"/job-status/{deleted.json()['job_id']}").json()["result"] == "lighthouse.pdf: deleted"
    assert uploaded(api, pdf) != upload_id


def test_reindexing_does_not_change_search_results(api: httpx.Client, settings: Settings, pdf: Path) -> None:
    upload_id = uploaded(api, pdf)
    queued = api.post(f"/uploads/{upload_id}/reindex")
    assert queued.json()["job_id"] == state(api, upload_id)["job_id"]
    work(settings)
    before = ask(api, settings, "When was the lighthouse built?")
    again = api.post(f"/uploads/{upload_id}/reindex")
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    assert "1887" in ask(api, settings, "When was the lighthouse built?")["result"]
    work(settings)
    assert ask(api, settings, "When was the lighthouse built?")["sources"] == before["sources"]
    assert state(api, upload_id)["chunks"] == 3


def test_a_body_over_the_limit_is_a_413(make_settings: Any, valkey_url: str) -> None:
    from server import create_app
    from tests.support.openai_stub import serving

    settings = make_settings(valkey_url=valkey_url, max_upload_mb=1)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as api:
        assert post(api, ("big.txt", b"word " * 300_000)).status_code == 413
        assert post(api, ("fits.txt", b"word " * 100_000)).status_code == 202
    assert len(list(settings.files_dir.iterdir())) == 1


def test_without_valkey_an_upload_is_refused_and_leaves_nothing(make_settings: Any, pdf: Path) -> None:
    from server import create_app
    from tests.support.openai_stub import serving

    settings = make_settings(valkey_url="redis://127.0.0.1:1")
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as api:
        assert post(api, pdf).status_code == 503
        assert api.get("/uploads").json()["uploads"] == []
    assert list(settings.files_dir.iterdir()) == []
