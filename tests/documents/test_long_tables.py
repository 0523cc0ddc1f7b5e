"""A cell deep in a long table, asked for over HTTP: the rows of the answer say of what they are."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from settings import Settings
from tests.api.test_uploads import ask, state, uploaded
from tests.rag.ingest.test_block_tables import CAPTION, FILES, UNIT
from tests.support.tables import each
from tests.support.workers import work


@each("name, make", {kind: FILES[kind] for kind in ("DOCX", "HTML", "Markdown", "workbook")})
def test_the_answer_shows_caption_unit_and_header(
    name: str, make: Callable[[], bytes], api: httpx.Client, settings: Settings
) -> None:
    upload_id = uploaded(api, (name, make()))
    work(settings)
    assert state(api, upload_id)["status"] == "ready"
    result = ask(api, settings, "What are the dues of berth Quay 150?", upload_id=upload_id)
    row = "Berth: Quay 150 | Owner: the 150th trading company of the old harbour | Dues: 550 paid"
    [source] = [one for one in result["sources"] if row in one["quote"]]
    assert row in result["result"]
    if name != "a.xlsx":
        assert CAPTION in result["result"]
    assert UNIT in result["result"]
    page = api.get(f"/uploads/{upload_id}/pages/{source['page']}/text").json()
    text = page["text"]
    assert text[source["start"] : source["end"]] == source["quote"]
