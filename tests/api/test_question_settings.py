"""The settings of a question reach the search and the model over HTTP, and the result shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from index import main as index
from queues import wiring
from queues.worker import process_query
from schemas import Query, Usage
from server import create_app
from settings import Settings
from tests.api.test_watching import read
from tests.conftest import MakeSettings
from tests.queues.test_chat import index as index_with_command
from tests.queues.test_chat import variables
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.pdfs import write_pdf
from tests.support.processes import RQ, running

LIGHTHOUSE = ["The lighthouse was built in 1887. The lamp is green.", "The lamp turns once in twelve seconds."]
CAR = ["The car has a lamp at each corner. The lamp of the car is white."]


@pytest.fixture
def with_model(
    make_settings: MakeSettings, stub: OpenAIStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Settings]:
    """Settings with a stub provider, and two indexed documents."""
    settings = make_settings(
        openai_base_url=stub.url, openai_api_key=KEY, chat_model="small", chat_models="big, huge", embedding_model="e"
    )
    chosen = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "EMBEDDING_MODEL": "e"}
    for variable, value in (chosen | {"DATA_DIR": str(settings.data_dir)}).items():
        monkeypatch.setenv(variable, value)
    for name, pages in {"lighthouse.pdf": LIGHTHOUSE, "car.pdf": CAR}.items():
        assert index([str(write_pdf(tmp_path / name, pages))]) == 0
    opened = wiring.open_services(settings, owner=True)
    monkeypatch.setattr(wiring, "_current", opened)
    yield settings
    opened.close()


def upload_of(name: str) -> str:
    return next(upload.upload_id for upload in wiring.get_services().uploads.all() if upload.name == name)


def ask(**payload: Any) -> dict[str, Any]:
    return process_query({"query": "What about the lamp?"} | payload)


@pytest.mark.usefixtures("with_model")
def test_model_temperature_and_length_reach_the_provider(stub: OpenAIStub) -> None:
    stub.behaviour.answer = "The lamp turns once in twelve seconds [1]. It sings [1]."
    answer = ask(model="big", temperature=0.25, max_tokens=77, names=["lighthouse.pdf"], first_page=2)
    sent = stub.behaviour.chats[-1]
    assert (sent["model"], sent["temperature"]) == ("big", 0.25)
    assert sent.get("max_completion_tokens", sent.get("max_tokens")) == 77
    assert answer["used"] | {"reranker": ""} == {
        "k": 6, "min_score": None, "upload_ids": None, "names": ["lighthouse.pdf"], "first_page": 2, "last_page": None,
        "model": "big", "temperature": 0.25, "max_tokens": 77, "embedding_model": "e", "reranker": "", "passages": 1,
    }  # fmt: skip
    assert answer["usage"] == Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2).model_dump()
    assert {"embed", "search", "rerank", "model"} <= set(answer["times"])
    assert answer["unsupported"] == 1
    assert [(source["name"], source["page"]) for source in answer["sources"]] == [("lighthouse.pdf", 2)]


@pytest.mark.usefixtures("with_model")
def test_an_option_left_out_takes_the_configured_value(stub: OpenAIStub) -> None:
    answer = ask()
    sent = stub.behaviour.chats[-1]
    assert sent["model"] == "small"
    assert "temperature" not in sent
    assert answer["used"]["model"] == "small"
    assert answer["used"]["passages"] == 3


@pytest.mark.usefixtures("with_model")
def test_filters_keep_other_documents_from_the_model(stub: OpenAIStub) -> None:
    ask(names=["car.pdf"])
    assert "lighthouse" not in stub.behaviour.chats[-1]["messages"][-1]["content"]
    ask(upload_ids=[upload_of("lighthouse.pdf")])
    assert "car" not in stub.behaviour.chats[-1]["messages"][-1]["content"]
    answer = ask(names=["nothing.pdf"])
    assert not answer["answered"]
    assert len(stub.behaviour.chats) == 2


@pytest.fixture
def model_api(make_settings: MakeSettings, valkey_url: str) -> Iterator[httpx.Client]:
    """The API with three models to choose from."""
    app = create_app(make_settings(valkey_url=valkey_url, openai_api_key=KEY, chat_models="big, huge"))
    with serving(app) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


def test_settings_of_a_question_arrive_over_http(model_api: httpx.Client) -> None:
    asked = {"query": "q", "model": "huge", "temperature": 0, "max_tokens": 5, "min_score": 0.2, "name": "car.pdf"}
    assert model_api.post("/chat", json=asked).status_code == 202
    assert model_api.post("/chat", json={"query": "q", "name": ["a", "b"], "first_page": 1}).status_code == 202


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"model": "gpt-unknown"}, "model"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_score": 1.5}, "min_score"),
        ({"name": []}, "name"),
        ({"first_page": 0}, "first_page"),
        ({"first_page": 5, "last_page": 2}, "first_page"),
    ],
)
def test_invalid_settings_of_a_question_are_refused(model_api: httpx.Client, wrong: dict[str, Any], named: str) -> None:
    refused = model_api.post("/chat", json={"query": "q"} | wrong)
    assert refused.status_code == 422
    assert named in refused.text
    assert "gpt-unknown" not in refused.text


def test_without_a_provider_no_model_can_be_chosen(api: httpx.Client) -> None:
    refused = api.post("/chat", json={"query": "q", "model": "small"})
    assert refused.status_code == 422
    assert "no model is configured" in refused.text


@pytest.mark.usefixtures("with_model")
def test_a_result_does_not_contain_the_path_of_the_pdf(tmp_path: Path) -> None:
    assert str(tmp_path) not in str(ask())


def test_events_tell_the_answer_while_it_is_written_and_its_checked_sources_at_the_end(
    api: httpx.Client, settings: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "RQ_REDIS_URL": settings.queue_url}
    index_with_command(pdf, settings, **use)
    stub.behaviour.answer = "It was built in 1887 [1]. It can fly [1]."
    job_id = api.post("/chat", json={"query": "When was the lighthouse built?"}).json()["job_id"]
    with running([RQ, "worker", "rag_queries"], tmp_path / "w.log", **variables(settings, **use)):
        seen = read(api, job_id)
    tokens = [data["text"] for _, kind, data in seen if kind == "token"]
    assert "".join(tokens) == stub.behaviour.answer
    [sources] = [data for _, kind, data in seen if kind == "sources"]
    assert [source["n"] for source in sources["sources"]] == [1]
    assert sources["unsupported"] == 1
    kinds = [kind for _, kind, _ in seen]
    assert kinds.index("token") < kinds.index("sources") < kinds.index("finished")


def test_a_plain_question_carries_only_fields_that_workers_of_the_release_before_know() -> None:
    plain = {"query", "k", "user_id", "everyone", "upload_ids", "names", "first_page", "last_page", "min_score"}
    plain |= {"model", "temperature", "max_tokens", "conversation_id", "cache"}
    assert Query(query="Why?").payload().keys() == plain
    query = Query(query="Why?", instructions="Briefly.")
    assert Query(**query.payload()) == query
