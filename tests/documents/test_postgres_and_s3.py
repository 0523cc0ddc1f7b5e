"""An upload's whole life on PostgreSQL and S3."""

from __future__ import annotations

from pathlib import Path

import httpx

from client.files.store import open_file_store
from server import create_app
from tests.api.test_uploads import ask, state, uploaded
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.servers import empty_database, s3_location
from tests.support.workers import work


def test_an_upload_is_indexed_found_and_deleted(
    make_settings: MakeSettings, postgres_url: str, s3_url: str, valkey_url: str, pdf: Path
) -> None:
    database_url = empty_database(postgres_url)
    settings = make_settings(database_url=database_url, valkey_url=valkey_url, **s3_location(s3_url))
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=20) as api:
        upload_id = uploaded(api, pdf)
        work(settings)
        assert state(api, upload_id)["status"] == "ready"
        assert "1887" in ask(api, settings, "When was the lighthouse built?")["result"]
        assert api.get(f"/uploads/{upload_id}/file").content == pdf.read_bytes()
        api.delete(f"/uploads/{upload_id}")
        work(settings)
        assert api.get(f"/uploads/{upload_id}").status_code == 404
    assert not settings.files_dir.exists()
    assert not (settings.data_dir / "uploads.db").exists()
    assert list(open_file_store(settings).all()) == []
