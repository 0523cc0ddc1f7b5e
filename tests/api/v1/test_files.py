"""Files, used by OpenAI's own client, which refuses what does not fit OpenAI's types."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest

from client.sql.database import Database
from client.sql.uploads import UploadRepository
from documents.service import DocumentService
from settings import Settings
from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service
from tests.support.uploads import new_upload

TEXT = b"The ferry of Brindle Point leaves at half past seven."


def test_a_file_is_uploaded_found_cited_and_deleted(service: Service) -> None:
    with client_of(service.api) as client:
        sent = client.files.create(file=("ferry.txt", TEXT), purpose="user_data")
        assert (sent.filename, sent.bytes, sent.purpose, sent.status) == (
            "ferry.txt",
            len(TEXT),
            "user_data",
            "uploaded",
        )
        ready = client.files.wait_for_processing(sent.id, poll_interval=0.1)
        assert ready.status == "processed"
        assert client.files.content(sent.id).read() == TEXT
        part: Any = {"type": "input_file", "file_id": sent.id}
        asked: Any = {"role": "user", "content": [part, {"type": "input_text", "text": "When does the ferry leave?"}]}
        store: Any = {"type": "file_search", "vector_store_ids": ["vs_all"]}
        answer: Any = client.responses.create(model="rag", input=[asked], tools=[store]).to_dict()
        assert answer["output"][-1]["content"][0]["annotations"][0]["file_id"] == sent.id
        twin = client.files.create(file=("ferry.txt", TEXT), purpose="assistants")
        assert twin.id != sent.id
        assert [file.id for file in client.files.list(limit=1)][:2] == [twin.id, sent.id]
        assert [file.id for file in client.files.list(purpose="user_data")] == [sent.id]
        assert client.files.list(order="asc", after=sent.id).data[-1].id == twin.id
        for file in (sent, twin):
            assert client.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError) as caught:
            client.files.retrieve(sent.id)
        assert caught.value.code == "file_not_found"
        assert sent.id not in [file.id for file in client.files.list()]


def test_a_repeated_upload_is_the_same_file(service: Service) -> None:
    def send(**headers: str) -> str:
        named = {"file": ("repeat.txt", b"said once")}
        answer = service.api.post("/v1/files", files=named, data={"purpose": "assistants"}, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    assert send(**{"Idempotency-Key": "once"}) == send(**{"Idempotency-Key": "once"})
    counted = [send(**{"x-stainless-retry-count": str(count)}) for count in (0, 1, 0)]
    assert counted[0] == counted[1] != counted[2]


FORM = {"purpose": "assistants"}
BAD: dict[str, tuple[dict[str, str], tuple[str, bytes] | None, str, str]] = {
    "no file": (FORM, None, "file", "invalid_request_error"),
    "no purpose": ({}, ("a.txt", TEXT), "purpose", "invalid_request_error"),
    "another purpose": ({"purpose": "secret-text"}, ("a.txt", TEXT), "purpose", "unsupported_value"),
    "half an expiry": (
        FORM | {"expires_after[anchor]": "created_at"},
        ("a.txt", TEXT),
        "expires_after",
        "invalid_request_error",
    ),
    "a short expiry": (
        FORM | {"expires_after[anchor]": "created_at", "expires_after[seconds]": "5"},
        ("a.txt", TEXT),
        "expires_after[seconds]",
        "invalid_request_error",
    ),
    "a program": (FORM, ("a.bin", b"\x7fELF" + bytes(100)), "file", "unsupported_file"),
    "an empty file": (FORM, ("a.txt", b""), "file", "unsupported_file"),
}


@pytest.mark.parametrize(("form", "file", "param", "code"), BAD.values(), ids=BAD)
def test_bad_forms_name_the_parameter(
    form: dict[str, str], file: tuple[str, bytes] | None, param: str, code: str, service: Service
) -> None:
    parts = {name: (None, value.encode()) for name, value in form.items()} | ({"file": file} if file else {})
    answer = service.api.post("/v1/files", files=parts)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert "secret-text" not in answer.text


def test_a_file_is_deleted_when_its_time_has_come(service: Service) -> None:
    with client_of(service.api) as client:
        expires: Any = {"anchor": "created_at", "seconds": 3600}
        sent = client.files.create(file=("short.txt", b"short"), purpose="assistants", expires_after=expires)
    assert sent.expires_at is not None
    assert 3590 < sent.expires_at - time.time() <= 3601


def test_expired_uploads_are_deleted_and_others_stay(settings: Settings) -> None:
    database = Database(settings)
    uploads = UploadRepository(database)
    now = datetime.now(UTC)
    due = uploads.add(new_upload().model_copy(update={"expires_at": now - timedelta(seconds=1)}), unique=False)
    for later in (None, now + timedelta(hours=1)):
        uploads.add(new_upload().model_copy(update={"expires_at": later}), unique=False)
    asyncio.run(DocumentService(uploads, None, None).delete_expired())  # type: ignore[arg-type]  # touches no file
    assert [upload.upload_id for upload in uploads.all() if upload.status == "deleting"] == [due.upload_id]
    database.close()
