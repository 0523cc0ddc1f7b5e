"""Vector stores, used by OpenAI's own client, which refuses what does not fit OpenAI's types."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service
from tests.support.processes import wait_until

TEXTS = {
    "ferry.txt": b"The ferry of Brindle Point leaves at half past seven.",
    "museum.txt": b"The museum of Brindle Point opens at nine and costs four crowns.",
    "old-museum.txt": b"The museum of Brindle Point opened at eleven and cost two crowns.",
}
QUESTION = "When does the museum open?"


@pytest.fixture(scope="module")
def files(running_service: Service) -> dict[str, str]:
    """The ids of uploaded files, by name."""
    with client_of(running_service.api) as client:
        sent = {name: client.files.create(file=(name, text), purpose="assistants").id for name, text in TEXTS.items()}
        for file_id in sent.values():
            assert client.files.wait_for_processing(file_id, poll_interval=0.1).status == "processed"
    return sent


def names(client: OpenAI, store_id: str, **options: Any) -> list[str]:
    return [found.filename for found in client.vector_stores.search(store_id, query=QUESTION, **options)]


def test_a_store_is_made_changed_listed_and_deleted(service: Service, files: dict[str, str]) -> None:
    with client_of(service.api) as client:
        first = client.vector_stores.create(name="town", file_ids=list(files.values()), metadata={"of": "test"})
        second = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 2})
        assert (first.name, first.metadata, first.status) == ("town", {"of": "test"}, "completed")
        assert first.file_counts.to_dict() == {
            "total": 3,
            "completed": 3,
            "in_progress": 0,
            "failed": 0,
            "cancelled": 0,
        }
        assert first.usage_bytes == sum(len(text) for text in TEXTS.values())
        assert second.expires_at is not None
        assert second.expires_at > time.time() + 86_400
        assert [store.id for store in client.vector_stores.list(limit=1)][:2] == [second.id, first.id]
        assert [store.id for store in client.vector_stores.list(before=first.id, order="desc").data] == [second.id]
        renamed = client.vector_stores.update(first.id, name="village")
        assert (renamed.name, renamed.metadata) == ("village", {"of": "test"})
        models = [model.id for model in client.models.list()]
        assert f"rag:{first.id}" in models
        assert client.models.retrieve(f"rag:{first.id}").id == f"rag:{first.id}"
        for store in (first, second):
            assert client.vector_stores.delete(store.id).deleted
            with pytest.raises(openai.NotFoundError) as caught:
                client.vector_stores.retrieve(store.id)
            assert caught.value.code == "vector_store_not_found"
        assert client.files.retrieve(files["ferry.txt"]).status == "processed"


def test_questions_search_only_the_store_and_the_attributes_that_fit(service: Service, files: dict[str, str]) -> None:
    with client_of(service.api) as client:
        store = client.vector_stores.create(name="town")
        for name, year in (("ferry.txt", 2020), ("museum.txt", 2024), ("old-museum.txt", 2019)):
            attributes: Any = {"year": year, "kind": name.split(".", maxsplit=1)[0]}
            client.vector_stores.files.create_and_poll(files[name], vector_store_id=store.id, attributes=attributes)
        assert set(names(client, store.id)) == set(TEXTS)
        recent: Any = {"type": "gte", "key": "year", "value": 2020}
        museums: Any = {"type": "in", "key": "kind", "value": ["museum", "old-museum"]}
        assert names(client, store.id, filters={"type": "and", "filters": [recent, museums]}) == ["museum.txt"]
        assert (
            names(client, store.id, max_num_results=1, filters=museums) == names(client, store.id, filters=museums)[:1]
        )
        tool: Any = {"type": "file_search", "vector_store_ids": [store.id], "filters": {**recent, "type": "lt"}}
        service.model.answer = "The museum opened at eleven [1]."
        asked: Any = {"model": "rag", "input": QUESTION, "include": ["file_search_call.results"]}
        answer: Any = client.responses.create(**asked, tools=[tool]).to_dict()
        (found,) = answer["output"][0]["results"]
        assert (found["filename"], found["attributes"]["year"]) == ("old-museum.txt", 2019)
        cited = answer["output"][1]["content"][0]["annotations"][0]
        assert (cited["file_id"], cited["filename"]) == (files["old-museum.txt"], "old-museum.txt")
        with client.responses.create(**asked, tools=[tool], stream=True) as stream:
            done: Any = [event.to_dict() for event in stream if event.type == "response.output_item.done"]
        assert done[0]["item"]["results"] == answer["output"][0]["results"]
        # The answer follows the store, whatever was cached before.
        client.vector_stores.files.delete(files["old-museum.txt"], vector_store_id=store.id)
        again: Any = client.responses.create(**asked, tools=[tool]).to_dict()
        assert again["output"][0]["results"] == []
        service.model.answer = None
        chat = client.chat.completions.create(model=f"rag:{store.id}", messages=[{"role": "user", "content": QUESTION}])
        annotations: Any = chat.choices[0].message.to_dict().get("annotations")
        assert {one["url_citation"]["title"] for one in annotations} <= {"ferry.txt, Line 1", "museum.txt, Line 1"}


def test_several_queries_find_what_each_finds_best_first(service: Service, files: dict[str, str]) -> None:
    queries = ["When does the museum open?", "When does the ferry leave?"]
    with client_of(service.api) as client:
        store = client.vector_stores.create(file_ids=list(files.values()))
        alone = [client.vector_stores.search(store.id, query=query).data for query in queries]
        together: Any = client.vector_stores.search(store.id, query=[*queries, queries[0]])
        best = {
            found.file_id: max(one.score for data in alone for one in data if one.file_id == found.file_id)
            for found in together.data
        }
        few = client.vector_stores.search(store.id, query=queries, max_num_results=2)
    assert together.search_query == [*queries, queries[0]]
    assert {found.file_id: found.score for found in together.data} == best
    assert len(together.data) == len(best) == len(files)
    scores = [found.score for found in together.data]
    assert scores == sorted(scores, reverse=True)
    assert {alone[0][0].file_id, alone[1][0].file_id} == {found.file_id for found in few.data}


def test_batches_end_with_every_file_in_its_state(service: Service, files: dict[str, str]) -> None:
    with client_of(service.api) as client:
        store = client.vector_stores.create()
        broken = client.files.create(file=("broken.pdf", b"%PDF-1.7\nnothing of a PDF"), purpose="assistants")
        batch = client.vector_stores.file_batches.create_and_poll(
            store.id,
            files=[{"file_id": one, "attributes": {"n": n}} for n, one in enumerate([broken.id, *files.values()])],
        )
        assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 3, 1)
        listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
        (failed,) = listed.data
        assert failed.last_error is not None
        assert (failed.id, failed.last_error.code) == (broken.id, "invalid_file")
        page = client.vector_stores.files.list(store.id, order="asc", limit=3)
        assert len(list(page)) == 4
        before = client.vector_stores.files.list(store.id, order="asc", before=page.data[-1].id)
        assert [file.id for file in before.data] == [file.id for file in page.data[:2]]
        changed = client.vector_stores.files.update(files["ferry.txt"], vector_store_id=store.id, attributes={"n": "x"})
        assert changed.attributes == {"n": "x"}
        cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
        assert (cancelled.status, cancelled.file_counts.completed) == ("cancelled", 3)
        uploaded = client.vector_stores.file_batches.upload_and_poll(store.id, files=[("more.txt", b"More of it.")])
        assert uploaded.file_counts.completed == 1
        client.files.delete(broken.id)
        assert client.vector_stores.retrieve(store.id).file_counts.to_dict()["total"] == 4


def test_a_collection_is_a_store_that_chat_and_uploads_name(service: Service) -> None:
    def asked(path: str, **body: Any) -> str:
        answer = service.api.post(path, json=body)
        assert answer.status_code == 202, answer.text
        job_ids = answer.json().get("job_ids") or [answer.json()["job_id"]]
        names = []
        for job_id in job_ids:
            result = service.api.get(f"/result/{job_id}", params={"wait": 30}, timeout=40).json()
            names += [source["name"] for source in result["sources"]]
        return " ".join(names)

    for where in ({"params": {"collection": "bakery"}}, {"data": {"collection": "bakery"}}):
        sent = service.api.post("/uploads", files={"file": ("baker.txt", b"The baker sells rye bread.")}, **where)  # type: ignore[arg-type]
        upload_id = sent.json()["upload_id"]
    wait_until(lambda: service.api.get(f"/uploads/{upload_id}").json()["status"] == "ready", seconds=30)
    with client_of(service.api) as client:
        (store,) = [store for store in client.vector_stores.list() if store.name == "bakery"]
        assert store.file_counts.total == 1
    service.model.answer = "Rye bread [1]."
    question = {"query": "What does the baker sell?", "collection": "bakery"}
    assert asked("/chat", **question) == "baker.txt"
    assert asked("/chat/batch", questions=[question]) == "baker.txt"
    assert asked("/chat", query=QUESTION, collection="bakery") in {"", "baker.txt"}
    for path, body in (("/chat", {"query": "a", "collection": "none"}), ("/chat?query=a&collection=none", None)):
        assert service.api.post(path, json=body).json()["title"] == "Collection not found"


COMPARISON = {"type": "eq", "key": "k", "value": "v"}
BAD: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a long name": ("POST", "", {"name": "x" * 256}, "name"),
    "a NUL": ("POST", "", {"name": "secret-text\x00"}, "name"),
    "metadata": ("POST", "", {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    "an expiry": ("POST", "", {"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
    "a malformed id": ("POST", "", {"file_ids": ["secret-text"]}, "file_ids"),
    "10,000 files": ("POST", "/STORE/file_batches", {"file_ids": ["file-" + "0" * 32] * 10_000}, "file_ids"),
    "no files": ("POST", "/STORE/file_batches", {}, "file_ids"),
    "attributes": ("POST", "/STORE/files", {"file_id": "f", "attributes": {"k": ["v"]}}, "attributes"),
    "no question": ("POST", "/STORE/search", {"query": " "}, "query"),
    "a filter": ("POST", "/STORE/search", {"query": "a", "filters": {"type": "secret-text"}}, "filters"),
    "a deep filter": (
        *("POST", "/STORE/search"),
        {"query": "a", "filters": {"type": "and", "filters": [COMPARISON] * 10_000}},
        "filters",
    ),
    "weights": ("POST", "/STORE/search", {"query": "a", "ranking_options": {"hybrid_search": {}}}, "ranking_options"),
    "many results": ("POST", "/STORE/search", {"query": "a", "max_num_results": 51}, "max_num_results"),
    "a page": ("GET", "?limit=101", {}, "limit"),
}


@pytest.mark.parametrize(("method", "path", "body", "param"), BAD.values(), ids=BAD)
def test_bad_requests_name_the_parameter(
    method: str, path: str, body: dict[str, Any], param: str, service: Service, store: str
) -> None:
    address = "/v1/vector_stores" + path.replace("STORE", store)
    answer = service.api.request(method, address, json=body if method == "POST" else None)
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert error["param"].startswith(param), error
    assert "secret-text" not in answer.text


@pytest.fixture(scope="module")
def store(running_service: Service) -> str:
    return str(running_service.api.post("/v1/vector_stores", json={}).json()["id"])
