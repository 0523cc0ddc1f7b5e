"""The tool that searches files: its stores and options, and what a response shows of the search."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseFileSearchToolCall

from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service
from tests.api.v1.test_errors import serving_with
from tests.client.llm.test_rerank import KEY, Endpoint, endpoint
from tests.conftest import MakeSettings
from tests.support.processes import wait_until
from tests.support.workers import work

__all__ = ["endpoint"]  # a fixture

TEXTS = {
    "ferry.txt": b"The ferry of Brindle Point leaves the harbour at half past seven.",
    "museum.txt": b"The museum of Brindle Point opens at nine and costs four crowns.",
    "bakery.txt": b"The bakery sells rye bread.",
}
QUESTION = "When does the museum of Brindle Point open?"


@pytest.fixture(scope="module")
def stores(running_service: Service) -> dict[str, str]:
    """A vector store for each text, by the name of its file."""
    made = {}
    with client_of(running_service.api) as client:
        for name, text in TEXTS.items():
            store = client.vector_stores.create(name=name)
            client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(name, text))
            made[name] = store.id
    return made


def search_of(response: Response) -> ResponseFileSearchToolCall:
    """Return the search of a response."""
    found = response.output[0]
    assert isinstance(found, ResponseFileSearchToolCall)
    return found


def found_by(client: OpenAI, store_ids: list[str], **options: Any) -> list[tuple[str, float]]:
    """Return names and scores of what a question finds, best first."""
    tool: Any = {"type": "file_search", "vector_store_ids": store_ids, **options}
    include: Any = ["file_search_call.results"]
    response = client.responses.create(model="rag", input=QUESTION, tools=[tool], include=include)
    results = search_of(response).results
    assert results is not None
    return [(str(found.filename), found.score or 0.0) for found in results]


def test_stores_and_options_choose_what_is_found(service: Service, stores: dict[str, str]) -> None:
    both = [stores["ferry.txt"], stores["museum.txt"]]
    with client_of(service.api) as client:
        found = found_by(client, both)
        assert {name for name, _ in found} == {"ferry.txt", "museum.txt"}
        assert [name for name, _ in found_by(client, [stores["bakery.txt"]])] == ["bakery.txt"]
        assert found[0][0] == "museum.txt"
        assert found_by(client, both, max_num_results=1) == found[:1]
        between = (found[0][1] + found[1][1]) / 2
        assert found_by(client, both, ranking_options={"score_threshold": between}) == found[:1]
        assert {name for name, _ in found_by(client, both, ranking_options={"score_threshold": 0.0})} == {
            name for name, _ in found
        }
        many = [*stores.values(), *(client.vector_stores.create().id for _ in range(8))]
        assert found_by(client, many[:10])[0] == found[0]
        with pytest.raises(openai.BadRequestError) as caught:
            found_by(client, many)
    assert caught.value.param == "tools[0].vector_store_ids"
    assert "10" in str(caught.value)


def test_results_are_null_unless_they_are_asked_for(service: Service, stores: dict[str, str]) -> None:
    tool: Any = {"type": "file_search", "vector_store_ids": [stores["museum.txt"]]}
    with client_of(service.api) as client:
        response = client.responses.create(model="rag", input=QUESTION, tools=[tool])
        assert search_of(response).to_dict()["results"] is None
        assert search_of(client.responses.retrieve(response.id)).to_dict()["results"] is None
        with client.responses.create(model="rag", input=QUESTION, tools=[tool], stream=True) as stream:
            items = [event.item.to_dict() for event in stream if event.type == "response.output_item.done"]
    assert items[0]["results"] is None
    assert items[1]["content"][0]["annotations"][0]["filename"] == "museum.txt"  # type: ignore[index]


def test_files_of_a_store_have_16_attributes_and_one_way_of_chunks(service: Service, stores: dict[str, str]) -> None:
    with client_of(service.api) as client:
        store = client.vector_stores.create()
        file_id = client.vector_stores.files.list(stores["ferry.txt"]).data[0].id
        static: Any = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
        files = client.vector_stores.files
        most: Any = {f"k{number}": "v" for number in range(16)}
        with pytest.raises(openai.BadRequestError) as caught:
            files.create(file_id=file_id, vector_store_id=store.id, attributes=most | {"one": "more"})
        assert caught.value.param == "attributes"
        added = files.create(file_id=file_id, vector_store_id=store.id, attributes=most, chunking_strategy=static)
        assert added.attributes == most
        assert added.chunking_strategy is not None
        assert added.chunking_strategy.type == "other"
        with pytest.raises(openai.BadRequestError):
            files.update(file_id, vector_store_id=store.id, attributes=most | {"one": "more"})
        assert files.retrieve(file_id, vector_store_id=store.id) == added
        made = client.vector_stores.create(file_ids=[file_id], chunking_strategy={"type": "auto"})
        assert files.list(made.id).data[0].status == "completed"


def test_the_ranker_none_leaves_the_endpoint_out_and_offline_nothing_is_counted(
    make_settings: MakeSettings, valkey_url: str, endpoint: Endpoint
) -> None:
    """Without a model provider: the usage is zeros, which clients add up, and never null."""
    settings = make_settings(valkey_url=valkey_url, rerank_url=endpoint.url, rerank_api_key=KEY, rerank_model="r")
    with serving_with(settings) as api, client_of(api) as client:
        for name, text in TEXTS.items():
            client.files.create(file=(name, text), purpose="assistants")
        work(settings)

        def ask(**ranking: Any) -> Response:
            tool: Any = {"type": "file_search", "vector_store_ids": ["vs_all"]} | ranking
            asked = client.responses.create(model="rag", input=QUESTION, tools=[tool], background=True)
            work(settings)
            return client.responses.retrieve(asked.id)

        without = ask(ranking_options={"ranker": "none"})
        assert endpoint.calls == []
        ranked = ask(ranking_options={"ranker": "auto"})
        assert len(endpoint.calls) == 1
    shown = [response.tools[0].to_dict()["ranking_options"] for response in (without, ranked)]
    assert shown == [{}, {"ranker": "auto"}]
    for response in (without, ranked):
        assert response.status == "completed"
        assert "nine" in response.output_text
        assert response.usage is not None
        assert response.usage.to_dict() == {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        }


def test_a_question_waits_for_the_files_that_it_names(service: Service) -> None:
    """The files are not read yet when the question is asked."""
    service.model.embedding_delay_seconds = 1.0
    with client_of(service.api) as client:
        sent = client.files.create(
            file=("mill.txt", b"The mill of Brindle Point grinds on Mondays."), purpose="user_data"
        )
        part: Any = {"type": "input_file", "file_id": sent.id}
        text: Any = {"type": "input_text", "text": "When does the mill of Brindle Point grind?"}
        answer = client.responses.create(model="rag", input=[{"role": "user", "content": [part, text]}])
        assert "Mondays" in answer.output_text
        client.files.delete(sent.id)
    wait_until(lambda: service.api.get(f"/v1/files/{sent.id}").status_code == 404)
