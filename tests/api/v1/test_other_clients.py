"""What clients of others make of the service: the exact quote and the page of a citation, streams, sessions.

The scripts are in tests/clients. Each prints what its client returned, and is run once.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from settings import ROOT
from tests.api.v1.conftest import PAGES, Service
from tests.support.other_clients import PYTHON, needs_clients, needs_node, run_client, run_node

SCRIPTS = ROOT / "tests" / "clients"
QUOTE = PAGES[0]
CITED = {"quote": QUOTE, "page": 1, "page_label": "1"}
Seen = dict[str, Any]


def seen_by(name: str, service: Service) -> Seen:
    """Return what a script prints, of a model that writes slowly enough to be followed."""
    service.forget()
    service.model.pause_seconds = 0.05
    url, path = service.api.base_url, SCRIPTS / name
    is_node = path.suffix == ".mjs"
    seen: Seen = json.loads(run_node(url, path.read_text()) if is_node else run_client(url, SCRIPTS, PYTHON, str(path)))
    return seen


def assert_file_is_cited(message: Seen) -> None:
    """Check a message's only citation: the file, its page, the quote, and where the mark stands in the text."""
    (part,) = message["content"]
    (found,) = part["annotations"]
    assert found["type"] == "file_citation"
    assert found["file_id"].startswith("file-")
    assert found["filename"] == "lighthouse.pdf"
    assert part["text"][found["start_index"] : found["end_index"]] == "[1]"
    assert found.get("index", found["start_index"]) == found["start_index"]  # LangChain drops `index`
    assert found.items() >= CITED.items()


def assert_address_is_cited(cited: Seen) -> None:
    """Check the citation of an address: it leads to the page."""
    assert cited["title"] == "lighthouse.pdf, page 1"
    assert cited["url"].endswith("/file#page=1")


@pytest.fixture(scope="module")
def node(running_service: Service) -> Seen:
    """What the script of this client saw."""
    return seen_by("openai_sdk.mjs", running_service)


@pytest.fixture(scope="module")
def ai_sdk(running_service: Service) -> Seen:
    """What the script of this client saw."""
    return seen_by("ai_sdk.mjs", running_service)


@pytest.fixture(scope="module")
def agents(running_service: Service) -> Seen:
    """What the script of this client saw."""
    return seen_by("agents_sdk.py", running_service)


@pytest.fixture(scope="module")
def litellm(running_service: Service) -> Seen:
    """What the script of this client saw."""
    return seen_by("litellm_sdk.py", running_service)


@pytest.mark.parametrize("streaming", [False, True])
def test_langchain_has_page_and_quote_by_responses(streaming: bool, service: Service) -> None:
    model = ChatOpenAI(**_of(service), use_responses_api=True, streaming=streaming)
    message: Any = model.invoke("When was the lighthouse built?")
    if streaming:
        chunks: Any = list(model.stream("In which year was the lighthouse built?"))
        message = sum(chunks[1:], chunks[0])
    cited = [one for block in message.content for one in block.get("annotations", [])]
    (found,) = cited
    assert found.items() >= CITED.items()
    assert_address_is_cited(found)
    text = str(message.text)
    assert text[found["start_index"] : found["end_index"]] == "[1]"
    searching = model.bind_tools([{"type": "file_search", "vector_store_ids": ["vs_all"]}])
    answer: Any = searching.invoke("Who built the lighthouse?")
    (message_block,) = (block for block in answer.content if block["type"] == "text")
    assert_file_is_cited({"content": [message_block]})


@pytest.mark.parametrize("streaming", [False, True])
def test_langchain_has_page_and_quote_in_the_text_by_completions(streaming: bool, service: Service) -> None:
    """LangChain drops the citations of completions: the model `rag-sources` writes them into the text."""
    model = ChatOpenAI(**_of(service, model="rag-sources"), streaming=streaming)
    text = str(model.invoke("When was the lighthouse built?").text)
    if streaming:
        text = "".join(str(chunk.text) for chunk in model.stream("In which year was the lighthouse built?"))
    assert text.endswith(f"\n\n[1] lighthouse.pdf, page 1: `{QUOTE}`")


def _of(service: Service, *, model: str = "rag") -> dict[str, Any]:
    return {
        "model": model,
        "base_url": f"{service.api.base_url}/v1",
        "api_key": "not-needed",
        "max_retries": 0,
    }


@needs_clients
@needs_node
class TestNode:
    """OpenAI's package for Node."""

    def test_answers_cite_page_and_quote(self, node: Seen) -> None:
        for response in (node["whole"], node["helped"], node["followed"], node["polled"]):
            assert response["status"] == "completed"
            assert "1887" in response["output_text"]
            assert response["output"][0]["type"] == "file_search_call"
            assert_file_is_cited(response["output"][1])

    def test_a_stream_is_whole(self, node: Seen) -> None:
        events = node["streamed"]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        final = events[-1]["response"]["output"][1]
        assert len(deltas) > 3
        assert "".join(deltas) == final["content"][0]["text"]
        (added,) = (event["annotation"] for event in events if event["type"].endswith("annotation.added"))
        assert final["content"][0]["annotations"] == [added]

    def test_a_background_response_is_resumed_from_each_event(self, node: Seen) -> None:
        events = node["events"]
        assert node["left"] < len(events) - 5  # the client left in the middle
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[-1]["type"] == "response.completed"
        assert len(node["resumed"]) == len(events) - 1
        for number, resumed in enumerate(node["resumed"]):
            assert resumed == events[number + 1 :]

    def test_a_background_response_is_polled_and_not_cancelled_after_its_end(self, node: Seen) -> None:
        assert node["accepted"]["status"] == "queued"
        assert node["refused"] == [400, "invalid_request_error", "response_id"]

    def test_completions_cite_page_and_quote(self, node: Seen) -> None:
        (whole,) = node["completion"]["choices"][0]["message"]["annotations"]
        (streamed,) = node["chunks"][-2]["choices"][0]["delta"]["annotations"]
        for one in (whole, streamed):
            assert one["url_citation"].items() >= CITED.items()
            assert_address_is_cited(one["url_citation"])


@needs_clients
@needs_node
class TestAISDK:
    """The packages `ai` and `@ai-sdk/openai`, which keep of a citation the members that they know."""

    @pytest.mark.parametrize("way", ["responses", "completions"])
    def test_sources_lead_to_the_page(self, way: str, ai_sdk: Seen) -> None:
        for answer in (ai_sdk[way]["whole"], ai_sdk[way]["streamed"]):
            assert "1887" in answer["text"]
            (source,) = answer["sources"]
            assert source["sourceType"] == "url"
            assert_address_is_cited(source)

    def test_searches_have_page_and_quote(self, ai_sdk: Seen) -> None:
        for answer in (ai_sdk["searching"]["whole"]["content"], ai_sdk["searching"]["streamed"]["parts"]):
            (source,) = (part for part in answer if part["type"] == "source")
            assert (source["sourceType"], source["filename"]) == ("document", "lighthouse.pdf")
            (found,) = (part["output"] for part in answer if part["type"] == "tool-result")
            assert source["providerMetadata"]["openai"]["fileId"] == found["results"][0]["fileId"]
            assert (found["results"][0]["text"], found["results"][0]["attributes"]["page"]) == (QUOTE, 1)

    @pytest.mark.parametrize("way", ["responses", "searching", "completions"])
    def test_streams_come_in_pieces_and_end(self, way: str, ai_sdk: Seen) -> None:
        streamed = ai_sdk[way]["streamed"]
        assert streamed["finish"] == "stop"
        pieces = [part["text"] for part in streamed["parts"] if part["type"] == "text-delta"]
        assert len(pieces) > 3
        assert "".join(pieces) == streamed["text"]
        assert not [part for part in streamed["parts"] if part["type"] == "error"]
        raw = json.dumps([part for part in streamed["parts"] if part["type"] == "raw"], ensure_ascii=False)
        assert f'"quote": "{QUOTE}"' in raw


@needs_clients
class TestAgents:
    """The package `openai-agents`."""

    def test_an_agent_cites_page_and_quote(self, agents: Seen) -> None:
        search, message = agents["whole"]
        assert (search["results"][0]["text"], search["results"][0]["attributes"]["page"]) == (QUOTE, 1)
        assert_file_is_cited(message)
        assert agents["text"] == message["content"][0]["text"]

    def test_an_agent_streams(self, agents: Seen) -> None:
        assert [event["sequence_number"] for event in agents["raw"]] == list(range(len(agents["raw"])))
        deltas = [event["delta"] for event in agents["raw"] if event["type"] == "response.output_text.delta"]
        assert len(deltas) > 3
        assert "".join(deltas) == agents["streamed_text"]
        assert "run_item_stream_event" in agents["kinds"]
        assert_file_is_cited(agents["raw"][-1]["response"]["output"][1])

    def test_a_session_of_the_service_keeps_the_turns(self, agents: Seen, running_service: Service) -> None:
        messages = [item for item in agents["items"] if item["type"] == "message"]
        assert [item["role"] for item in messages] == ["user", "assistant"] * 3
        assert [item["content"][0]["text"] for item in messages[1::2]] == agents["answers"]
        for message in messages[1:4:2]:
            assert_file_is_cited(message)
        assert [item["id"] for item in agents["items"] if item["type"] == "file_search_call"]
        assert agents["newest"] == [agents["popped"]] == agents["items"][-1:]
        assert agents["left"] == agents["items"][:-1]
        gone = running_service.api.get(f"/v1/conversations/{agents['conversation']}")
        assert gone.status_code == 404


@needs_clients
class TestLiteLLM:
    """The package `litellm`."""

    def test_responses_cite_page_and_quote(self, litellm: Seen) -> None:
        final = litellm["streamed"][-1]
        assert final["type"] == "response.completed"
        for response in (litellm["whole"], final["response"], litellm["again"]):
            assert_file_is_cited(response["output"][1])
        assert final["response"]["output"] == litellm["again"]["output"]

    def test_completions_cite_page_and_quote(self, litellm: Seen) -> None:
        (whole,) = litellm["completion"]["choices"][0]["message"]["annotations"]
        streamed = [one for chunk in litellm["chunks"] for one in chunk["choices"][0]["delta"].get("annotations") or []]
        for one in (whole, *streamed):
            assert one["url_citation"].items() >= CITED.items()
            assert_address_is_cited(one["url_citation"])
        assert len(streamed) == 1
