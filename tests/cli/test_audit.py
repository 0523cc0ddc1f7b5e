"""The audit log over HTTP: who did what, by ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.support.callers import AUDIENCE, ISSUER, SECRET, bearer, token
from tests.support.processes import PYTHON, free_port, running, wait_until


def test_uploads_deletes_cancels_and_webhooks_are_audited_with_who_did_them(valkey_url: str, tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "audit.jsonl"
    use = {"PORT": str(port), "DATA_DIR": str(tmp_path), "VALKEY_URL": valkey_url, "AUDIT_LOG": str(path)}
    use |= {"JWT_SECRET": SECRET, "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER, "LOG_LEVEL": "ERROR"}
    credential = token("ada", scope="query upload")
    with (
        running([PYTHON, "main.py", "api"], tmp_path / "api.log", **use) as api_process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, headers=bearer(credential)) as api,
    ):
        wait_until(lambda: _answers(api), seconds=40, what=lambda: api_process.output)
        api.headers["X-Request-ID"] = "request-1"
        sent = api.post("/uploads", files={"file": ("private name.txt", b"private text")})
        assert sent.status_code == 202, sent.text
        upload = sent.json()
        assert api.post("/uploads", files={"file": ("a.txt", b"private text")}).json()["duplicate"]
        assert api.post(f"/uploads/{upload['upload_id']}/reindex").status_code == 202
        assert api.delete(f"/uploads/{upload['upload_id']}").status_code == 202
        job = api.post("/chat", json={"query": "private question"}).json()["job_id"]
        assert api.delete(f"/jobs/{job}").status_code == 200
        hook = api.post("/webhooks", json={"url": "https://receiver.example/private"}).json()
        assert api.delete(f"/webhooks/{hook['id']}").status_code == 204
        assert api.delete("/uploads/none").status_code == 404
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    ours = [line for line in lines if line.get("request_id") == "request-1"]
    what = ["upload_added", "upload_repeated", "upload_reindexed", "upload_deleted", "job_cancelled"]
    done = [line for line in ours if line["event"] in {*what, "webhook_registered", "webhook_deleted"}]
    assert [line["event"] for line in done] == [*what, "webhook_registered", "webhook_deleted"]
    assert {line["user_id"] for line in done} == {"ada"}
    assert {line["upload_id"] for line in done[:4]} == {upload["upload_id"]}
    assert done[0]["bytes"] == len(b"private text")
    assert done[4]["job_id"] == job
    assert {line["endpoint_id"] for line in done[5:]} == {hook["id"]}
    assert "private" not in path.read_text() + api_process.output
    assert credential not in path.read_text() + api_process.output


def _answers(api: httpx.Client) -> bool:
    try:
        return api.get("/health").status_code == 200
    except httpx.TransportError:
        return False
