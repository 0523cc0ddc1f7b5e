"""Conversations, used by OpenAI's own client, which refuses what does not fit OpenAI's types."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service

WHO, WHEN = "Who built the lighthouse?", "And when?"


def texts(items: Any) -> list[tuple[str, str]]:
    return [(item["role"], item["content"][0]["text"]) for item in (one.to_dict() for one in items)]


def test_responses_of_a_conversation_are_understood_and_kept(service: Service) -> None:
    with client_of(service.api) as client:
        conversation = client.conversations.create(metadata={"of": "test"})
        first = client.responses.create(model="rag", input=WHO, conversation=conversation.id)
        assert first.conversation is not None
        assert first.conversation.id == conversation.id
        service.model.answer = "When was the lighthouse of Brindle Point built?"
        tool: Any = {"type": "file_search", "vector_store_ids": ["vs_all"]}
        client.responses.create(model="rag", input=WHEN, conversation={"id": conversation.id}, tools=[tool])
        rewriting = service.model.chats[1]["messages"][-1]["content"]
        assert WHO in rewriting
        assert first.output_text.split("[")[0] in rewriting
        listed = client.conversations.items.list(conversation.id, order="asc")
        said = texts(listed)
        assert said[0] == ("user", WHO)
        assert said[1] == ("assistant", first.output_text)
        assert said[2] == ("user", WHEN)
        assert listed.data[1].id == first.output[-1].id
        newest = client.conversations.items.list(conversation.id, limit=1)
        assert newest.has_more
        assert texts(newest.data) == said[-1:]
        own = service.api.get(f"/conversations/{conversation.id}/items").json()["items"]
        assert [(item["role"], item["text"]) for item in own] == said
        titles = {
            one["conversation_id"]: one["title"] for one in service.api.get("/conversations").json()["conversations"]
        }
        assert titles[conversation.id] == WHO


def test_items_are_added_read_and_deleted(service: Service) -> None:
    with client_of(service.api) as client:
        asked: Any = {"type": "message", "role": "user", "content": "Is the lighthouse of Brindle Point old?"}
        answered: Any = {"role": "assistant", "content": [{"type": "output_text", "text": "Yes, quite."}]}
        conversation = client.conversations.create(items=[asked])
        added = client.conversations.items.create(conversation.id, items=[answered])
        items = client.conversations.items.list(conversation.id, order="asc").data
        assert texts(items) == [("user", asked["content"]), ("assistant", "Yes, quite.")]
        assert client.conversations.items.retrieve(added.data[0].id or "", conversation_id=conversation.id) == items[1]
        client.responses.create(model="rag", input=WHEN, conversation=conversation.id)
        assert "Yes, quite." in service.model.chats[0]["messages"][-1]["content"]
        client.conversations.items.delete(items[0].id or "", conversation_id=conversation.id)
        left = client.conversations.items.list(conversation.id, order="asc").data
        assert texts(left)[0] == ("assistant", "Yes, quite.")
        assert client.conversations.update(conversation.id, metadata={"a": "b"}).metadata == {"a": "b"}
        assert client.conversations.retrieve(conversation.id).metadata == {"a": "b"}
        assert client.conversations.delete(conversation.id).deleted
        for attempt in (
            lambda: client.conversations.retrieve(conversation.id),
            lambda: client.responses.create(model="rag", input=WHO, conversation=conversation.id),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                attempt()
            assert caught.value.code == "conversation_not_found"


def test_a_conversation_of_chat_is_shown_and_deleted(service: Service) -> None:
    for question in (WHO, "How far is its lamp seen?"):
        job_id = service.api.post("/chat", json={"query": question, "conversation_id": "c-1"}).json()["job_id"]
        assert service.api.get(f"/result/{job_id}", params={"wait": 30}, timeout=40).status_code == 200
    page = service.api.get("/conversations/c-1/items", params={"limit": 3}).json()
    assert [item["role"] for item in page["items"]] == ["user", "assistant", "user"]
    assert page["items"][1]["sources"][0]["name"] == "lighthouse.pdf"
    rest = service.api.get("/conversations/c-1/items", params={"after": page["next"]}).json()
    assert [item["job_id"] for item in rest["items"]] == [job_id]
    assert "next" not in rest
    first = service.api.get("/conversations", params={"limit": 1}).json()
    assert first["conversations"][0]["conversation_id"] == "c-1"
    assert service.api.delete("/conversations/c-1").status_code == 204
    assert service.api.get("/conversations/c-1/items").status_code == 404
    assert service.api.delete("/conversations/c-1").status_code == 404


def test_a_compacted_conversation_is_understood(service: Service) -> None:
    said: list[Any] = [{"role": "user", "content": WHO}, {"role": "assistant", "content": "Vale, an engineer."}]
    with client_of(service.api) as client:
        compacted = client.responses.compact(model="rag", input=said)
        assert [item.type for item in compacted.output] == ["compaction"]
        items: list[Any] = [item.to_dict() for item in compacted.output]
        client.responses.create(model="rag", input=[*items, {"role": "user", "content": WHEN}])
        assert "Vale, an engineer." in service.model.chats[0]["messages"][-1]["content"]
        first = client.responses.create(model="rag", input=WHO)
        chained = client.responses.compact(model="rag", previous_response_id=first.id)
        counted = client.responses.input_tokens.count(model="rag", input=WHEN, previous_response_id=first.id)
        assert counted.input_tokens == sum(-(-len(text.encode()) // 4) for text in (WHO, first.output_text, WHEN))
        foreign: Any = {"type": "compaction", "encrypted_content": "gAAAA"}
        client.responses.create(model="rag", input=[foreign, {"role": "user", "content": WHO}])
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.compact(model="rag")
    assert caught.value.param == "input"
    assert chained.output[-1].type == "compaction"


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "metadata": ("", {"metadata": {"k": "x" * 513}}, "metadata"),
    "many items": ("", {"items": [{"role": "user", "content": "a"}] * 10_000}, "items"),
    "a call": ("", {"items": [{"type": "function_call_output", "output": "secret-text"}]}, "items[0].type"),
    "a role": ("", {"items": [{"role": "secret-text", "content": "a"}]}, "items[0].role"),
    "a NUL": ("", {"items": [{"role": "user", "content": "secret-text\x00"}]}, "items[0].content"),
    "a picture": ("", {"items": [{"role": "user", "content": [{"type": "input_image"}]}]}, "items[0].content[0].type"),
    "another prefix": ("/vs_" + "0" * 32, {"metadata": {}}, "conversation_id"),
}


@pytest.mark.parametrize(("path", "body", "param"), BAD.values(), ids=BAD)
def test_bad_requests_name_the_parameter(path: str, body: dict[str, Any], param: str, service: Service) -> None:
    answer = service.api.post(f"/v1/conversations{path}", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert "secret-text" not in answer.text
    both = {"input": "a", "conversation": "conv_" + "0" * 32, "previous_response_id": "resp_" + "0" * 32}
    refused = service.api.post("/v1/responses", json=both).json()["error"]
    assert refused["param"] == "conversation"
    assert "previous_response_id" in refused["message"]
