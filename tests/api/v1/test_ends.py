"""How things end under /v1: cut answers, failed jobs, expired stores, batches that are given up."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import update

from client.sql.database import Database, VectorStoreRow
from server import create_app
from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service
from tests.api.v1.test_responses import QUESTION, events_of
from tests.support.openai_stub import serving
from tests.support.processes import wait_until
from tests.support.webhook_receiver import receiving


def test_an_answer_that_the_model_cut_is_incomplete(service: Service) -> None:
    service.model.finish_reason = "length"
    with client_of(service.api) as client:
        response = client.responses.create(model="rag", input=QUESTION)
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert events_of(service.replica, response.id)[-1]["type"] == "response.incomplete"
        asked: Any = {"model": "rag", "messages": [{"role": "user", "content": QUESTION}]}
        assert client.chat.completions.create(**asked).choices[0].finish_reason == "length"
        chunks = list(client.chat.completions.create(**asked, stream=True))
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"


def test_a_job_that_fails_is_a_response_that_failed_for_every_reader(service: Service) -> None:
    service.model.always_fail = 401
    with client_of(service.api) as client:
        response = client.responses.create(model="rag", input=QUESTION)
        again = client.responses.retrieve(response.id)
        with client.responses.create(model="rag", input=QUESTION, stream=True) as stream:
            streamed = [event.type for event in stream]
    assert response.status == again.status == "failed"
    assert response.error == again.error
    assert response.error is not None
    assert response.error.message
    assert streamed[-1] == "response.failed"
    assert events_of(service.replica, response.id)[-1]["response"]["status"] == "failed"


def test_each_end_has_its_webhook(service: Service) -> None:
    names: Any = ["response.failed", "response.incomplete", "response.cancelled"]
    with receiving() as receiver, client_of(service.api) as client:
        made = client.webhooks.create(name="ends", url=f"{receiver.url}/ends", event_types=names)
        try:
            service.model.always_fail = 401
            failed = client.responses.create(model="rag", input=QUESTION)
            service.model.always_fail = None
            service.model.finish_reason = "length"
            cut = client.responses.create(model="rag", input=f"{QUESTION} In short?")
            service.model.finish_reason = "stop"
            service.model.chat_delay_seconds = 5.0
            stopped = client.responses.create(model="rag", input=f"{QUESTION} At length?", background=True)
            client.responses.cancel(stopped.id)
            wait_until(lambda: len(receiver.received) == 3, seconds=30)
            told = {
                (event.type, event.data.id)  # type: ignore[union-attr]
                for one in receiver.received
                for event in [client.webhooks.unwrap(one.body, one.headers, secret=made.signing_secret)]
            }
        finally:
            client.webhooks.delete(made.id)
    assert told == set(zip(names, (failed.id, cut.id, stopped.id), strict=True))


def test_a_store_that_has_expired_is_not_searched(service: Service) -> None:
    with client_of(service.api) as client:
        sent = client.files.create(file=("ferry.txt", b"The ferry leaves at noon."), purpose="assistants")
        assert client.files.wait_for_processing(sent.id, poll_interval=0.1).status == "processed"
        expiry: Any = {"anchor": "last_active_at", "days": 1}
        store = client.vector_stores.create(file_ids=[sent.id], expires_after=expiry)
        long_ago = datetime.now(UTC) - timedelta(days=2)
        with closing(Database(service.settings)) as database, database.writing() as connection:
            connection.execute(update(VectorStoreRow).values(last_active_at=long_ago))
        assert client.vector_stores.retrieve(store.id).status == "expired"
        tool: Any = {"type": "file_search", "vector_store_ids": [store.id]}
        for use in (
            lambda: client.vector_stores.search(store.id, query="When?"),
            lambda: client.responses.create(model="rag", input="When?", tools=[tool]),
            lambda: client.vector_stores.files.create(file_id=sent.id, vector_store_id=store.id),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                use()
            assert caught.value.code == "vector_store_expired"
        client.vector_stores.update(store.id, expires_after=None)
        assert client.vector_stores.retrieve(store.id).status == "completed"


def test_the_text_of_a_file_is_read_from_its_store(service: Service) -> None:
    words = [f"Keeper {number} of Brindle Point counted {number * 7} boats." for number in range(900)]
    with client_of(service.api) as client:
        sent = client.files.create(file=("long.txt", "\n\n".join(words).encode()), purpose="assistants")
        store = client.vector_stores.create()
        client.vector_stores.files.create_and_poll(sent.id, vector_store_id=store.id)
        parts = [part.text or "" for part in client.vector_stores.files.content(sent.id, vector_store_id=store.id)]
        told = service.api.get(f"/v1/vector_stores/{store.id}/files/{sent.id}").headers
    read = " ".join(parts)
    assert all(f"Keeper {number} of" in read for number in (0, 450, 899))
    assert told["openai-poll-after-ms"] == "500"


def test_a_batch_is_given_up_before_its_files_are_read(service: Service) -> None:
    with client_of(service.api) as client:
        store = client.vector_stores.create()
        service.model.embedding_delay_seconds = 3.0
        sent = [
            client.files.create(file=(f"{n}.txt", f"Slow note {n} of the keeper.".encode()), purpose="assistants")
            for n in range(3)
        ]
        batch = client.vector_stores.file_batches.create(store.id, file_ids=[one.id for one in sent])
        cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
        assert cancelled.status == "cancelled"
        service.model.embedding_delay_seconds = 0.0
        ended = client.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id)
        assert ended.status == "cancelled"
        assert ended.file_counts.in_progress == 0
        assert json.loads(ended.to_json())["file_counts"]["total"] == 3


def test_a_file_that_cannot_be_indexed_says_why(service: Service) -> None:
    """`last_error` of a store's file has OpenAI's code, and `status_details` of the file the sentence."""
    converting = service.settings.model_copy(update={"document_converter_url": "http://127.0.0.1:1"})
    with (
        serving(create_app(converting)) as url,
        httpx.Client(base_url=url, timeout=30) as api,
        client_of(api) as client,
    ):
        # This API takes files for a converter, which the worker does not have.
        old_word = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "WordDocument".encode("utf-16-le") + bytes(2000)
        unsupported = client.files.create(file=("letter.doc", old_word), purpose="assistants")
    with client_of(service.api) as client:
        service.model.always_fail = 401  # the vectors cannot be had
        failing = client.files.create(file=("tower.txt", b"The tower is white."), purpose="assistants")
        empty = client.files.create(file=("empty.pdf", b"%PDF-1.7\nnothing of a PDF"), purpose="assistants")
        store = client.vector_stores.create()
        codes = {}
        for sent in (unsupported, failing, empty):
            member = client.vector_stores.files.create_and_poll(sent.id, vector_store_id=store.id)
            assert (member.status, member.usage_bytes) == ("failed", 0)
            assert member.last_error is not None
            codes[sent.filename] = member.last_error.code
            file = client.files.retrieve(sent.id)
            assert file.status == "error"
            assert file.status_details == member.last_error.message
            client.files.delete(sent.id)
    assert codes == {"letter.doc": "unsupported_file", "tower.txt": "server_error", "empty.pdf": "invalid_file"}
