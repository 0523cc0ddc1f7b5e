"""Responses, asked for and read by OpenAI's own client, which refuses what does not fit OpenAI's types."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from api.citation_links import CitationLinks
from api.v1.response_objects import Asked, response_of
from api.v1.response_stream import ResponseStream
from client.rq.ids import new_id
from schemas import Failure, JobStatus, JobView
from tests.api.test_watching import read
from tests.api.v1.clients import async_client_of, client_of
from tests.api.v1.conftest import Service
from tests.support.processes import wait_until
from tests.support.webhook_receiver import receiving

QUESTION = "When was the lighthouse built?"
ALL: Any = {"type": "file_search", "vector_store_ids": ["vs_all"]}
MEMBERS = {
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id"),
    *("instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p"),
    *("presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "store"),
    *("max_output_tokens", "max_tool_calls", "background", "service_tier", "metadata", "safety_identifier"),
    "prompt_cache_key",
}


def events_of(
    api: httpx.Client, response_id: str, *, host: httpx.Client | None = None, **parameters: Any
) -> list[dict[str, Any]]:
    """Read the stream of a response as it is sent to a client that knows the service by the name of `host`."""
    headers = {} if host is None else {"host": host.base_url.netloc.decode()}
    found = api.get(f"/v1/responses/{response_id}", params={"stream": "true", **parameters}, headers=headers)
    assert found.headers["content-type"].startswith("text/event-stream"), found.text
    return [json.loads(line[6:]) for line in found.text.splitlines() if line.startswith("data: ")]


def citations_of(response: Response) -> list[dict[str, Any]]:
    """Return the citations of the message of a response."""
    part: Any = response.to_dict()["output"]
    return list(part[-1]["content"][0]["annotations"])


def test_a_question_is_answered_with_its_citation(service: Service) -> None:
    with client_of(service.api) as client:
        response = client.responses.create(model="rag", input=QUESTION, metadata={"of": "test"}, store=True)
        again = client.responses.retrieve(response.id)
    assert (response.status, response.object, response.model) == ("completed", "response", "rag")
    assert "1887" in response.output_text
    (cited,) = citations_of(response)
    assert cited["type"] == "url_citation"
    assert response.output_text[cited["start_index"] : cited["end_index"]] == "[1]"
    assert cited["page"] == 1
    assert "built in 1887" in cited["quote"]
    assert service.api.get(cited["url"]).status_code == 200
    assert response.usage is not None
    assert response.usage.total_tokens == 2
    assert response.metadata == {"of": "test"}
    assert again == response
    assert set(response.to_dict()) >= MEMBERS


def test_the_search_of_files_is_an_item_and_cites_files(service: Service) -> None:
    with client_of(service.api) as client:
        response = client.responses.create(
            model="rag",
            input=[{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}],
            tools=[ALL, {"type": "function", "name": "ring", "parameters": {}, "strict": True}],
            include=["file_search_call.results"],
        )
    search, message = response.output
    assert search.type == "file_search_call"
    assert search.queries == [QUESTION]
    assert search.results is not None
    assert search.results[0].filename == "lighthouse.pdf"
    assert message.type == "message"
    (cited,) = citations_of(response)
    assert (cited["type"], cited["filename"], cited["page"]) == ("file_citation", "lighthouse.pdf", 1)


def test_a_background_response_is_resumed_after_every_event_on_any_replica(service: Service) -> None:
    with client_of(service.api) as client:
        with client.responses.create(
            model="rag",
            input=QUESTION,
            background=True,
            stream=True,
            tools=[ALL],
        ) as stream:
            events: list[Any] = [event.to_dict() for event in stream]
        response_id = str(events[0]["response"]["id"])
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        kinds = [str(event["type"]).removeprefix("response.") for event in events]
        assert kinds[:7] == [
            *("created", "queued", "in_progress", "output_item.added", "file_search_call.in_progress"),
            *("file_search_call.searching", "file_search_call.completed"),
        ]
        assert kinds[-5:] == [
            *("output_text.annotation.added", "output_text.done", "content_part.done", "output_item.done", "completed"),
        ]
        for after in range(len(events)):
            assert events_of(service.replica, response_id, starting_after=after) == events[after + 1 :]
    with client_of(service.replica) as client:
        resumed = client.responses.retrieve(response_id, stream=True, starting_after=4)
        assert [event.to_dict() for event in resumed] == events[5:]
        final = client.responses.retrieve(response_id)
        assert final.to_dict() == events[-1]["response"]
        with client.responses.stream(response_id=response_id, starting_after=3) as helper:
            assert helper.get_final_response().output_text == final.output_text


def test_deltas_have_the_marks_that_the_sources_support(service: Service) -> None:
    service.model.answer = (
        "Its lamp turns once in twelve seconds [2]. Built in 1887 [1, 9] by Tamsin Vale 【1】. It sank in 1999 [2]."
    )
    service.model.pause_seconds = 0.06  # each word is a piece
    with (
        client_of(service.api) as client,
        client.responses.create(model="rag", input=QUESTION, stream=True) as stream,
    ):
        events: list[Any] = [event.to_dict() for event in stream]
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    (part,) = events[-1]["response"]["output"][0]["content"]
    assert (
        part["text"]
        == "Its lamp turns once in twelve seconds [1]. Built in 1887 [2] by Tamsin Vale [2]. It sank in 1999."
    )
    assert "".join(deltas) == part["text"]
    assert len(deltas) > 5
    added = [event["annotation"] for event in events if event["type"] == "response.output_text.annotation.added"]
    assert added == part["annotations"]
    assert [part["text"][one["start_index"] : one["end_index"]] for one in added] == ["[1]", "[2]"]
    assert [one["page"] for one in added] == [2, 1]


def test_a_message_that_is_begun_again_is_closed_as_incomplete(service: Service) -> None:
    service.model.break_next = 1
    service.model.answer = "It was built in 1887 by the engineer Tamsin Vale [1]."
    service.model.pause_seconds = 0.1
    with (
        client_of(service.api) as client,
        client.responses.create(model="rag", input=QUESTION, background=True, stream=True) as stream,
    ):
        events: list[Any] = [event.to_dict() for event in stream]
        final = client.responses.retrieve(str(events[0]["response"]["id"]))
        with client.responses.stream(response_id=final.id) as helper:
            assert helper.get_final_response().output_text == final.output_text
    closed = [event["item"]["status"] for event in events if event["type"] == "response.output_item.done"]
    assert closed == ["incomplete", "completed"]
    assert final.output_text.startswith("It was built in 1887")
    assert events_of(service.replica, final.id, host=service.api) == events


def test_the_asynchronous_client_waits_in_the_background_and_cancels(service: Service) -> None:
    async def use() -> tuple[Response, Response, Response]:
        async with async_client_of(service.api) as client:
            waiting = await client.responses.create(model="rag", input=QUESTION, background=True)
            assert waiting.status == "queued"
            async with await client.responses.retrieve(waiting.id, stream=True) as stream:
                kinds = [event.type async for event in stream]
            assert kinds[-1] == "response.completed"
            answered = await client.responses.retrieve(waiting.id)
            service.model.chat_delay_seconds = 60
            slow = await client.responses.create(model="rag", input="How far is the lamp seen?", background=True)
            await asyncio.to_thread(wait_until, lambda: len(service.model.chats) == 2)
            cancelled = await client.responses.cancel(slow.id)
            with pytest.raises(openai.BadRequestError, match="Cannot cancel a completed"):
                await client.responses.cancel(answered.id)
            return answered, cancelled, await client.responses.cancel(slow.id)

    answered, cancelled, again = asyncio.run(use())
    assert "1887" in answered.output_text
    assert [cancelled.status, again.status] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_cancels_its_question(streamed: bool, service: Service) -> None:
    service.model.chat_delay_seconds = 60
    body = {"model": "rag", "input": f"How far is the lamp seen, {streamed}?", "stream": streamed}
    url = str(service.api.base_url)
    threading.Thread(target=post_and_leave, args=(url, body), daemon=True).start()
    wait_until(lambda: service.model.chats, seconds=20)
    newest = service.api.get("/jobs").json()["jobs"][0]["job_id"]
    wait_until(lambda: service.api.get(f"/job-status/{newest}").json()["status"] == "cancelled", seconds=20)


def post_and_leave(url: str, body: dict[str, Any]) -> None:
    """Ask, and close the connection without an answer."""
    with suppress(httpx.ReadTimeout), httpx.stream("POST", f"{url}/v1/responses", json=body, timeout=2) as response:
        for _ in response.iter_lines():
            pass


def test_a_chain_of_responses_is_understood_and_can_branch(service: Service) -> None:
    with client_of(service.api) as client:
        first = client.responses.create(model="rag", input="Who built the lighthouse?", background=True)
        service.model.answer = "When was the lighthouse built?"
        for _ in range(2):  # the first may still run
            second = client.responses.create(model="rag", input="And when?", previous_response_id=first.id)
            assert second.previous_response_id == first.id
        inline: list[Any] = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Vale."}]
        client.responses.create(model="rag", input=[*inline, {"role": "user", "content": "And when?"}])
        with pytest.raises(openai.NotFoundError) as caught:
            client.responses.create(model="rag", input="When?", previous_response_id="resp_" + "0" * 32)
    assert caught.value.param == "previous_response_id"
    rewriting = [call["messages"][-1]["content"] for call in service.model.chats if "<turn-" in str(call["messages"])]
    assert len(rewriting) == 3
    assert "Question: Who built the lighthouse?" in rewriting[0]
    assert "Question: Who?\nAnswer: Vale." in rewriting[2]


def test_instructions_reach_the_model_in_a_fence(service: Service) -> None:
    with client_of(service.api) as client:
        client.responses.create(
            model="large",
            instructions="Answer in French.",
            input=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
            temperature=0.5,
            max_output_tokens=10_000_000,
        )
    call = service.model.chats[-1]
    assert (call["model"], call["temperature"]) == ("large", 0.5)
    assert 32_768 in {call.get("max_tokens"), call.get("max_completion_tokens")}
    system, user = (str(message["content"]) for message in call["messages"])
    assert "Answer in French.\n\nBe brief.\n</wishes-" in user
    assert "The wishes say" in system


def test_a_response_is_deleted_and_its_input_listed(service: Service) -> None:
    items: list[Any] = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Vale."}]
    with client_of(service.api) as client:
        response = client.responses.create(
            model="rag",
            input=[*items, {"role": "user", "content": QUESTION}],
        )
        listed = list(client.responses.input_items.list(response.id, order="asc", limit=2))
        assert [item.to_dict()["role"] for item in listed] == ["user", "assistant", "user"]
        client.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError) as caught:
            client.responses.retrieve(response.id)
        assert caught.value.code == "response_not_found"
        unstored = client.responses.create(model="rag", input=QUESTION, store=False)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(unstored.id)


@pytest.mark.parametrize(
    ("failed", "code"), [("provider_rate_limited", "rate_limit_exceeded"), ("worker_died", "server_error")]
)
def test_a_failed_job_is_a_failed_response(failed: str, code: str) -> None:
    job = JobView(
        job_id=new_id(),
        kind="chat",
        status=JobStatus.FAILED,
        created_at=datetime.now(UTC),
        failure=Failure(code=failed, detail="the reason"),
    )
    asked = Asked.of(job, {"query": "Why?"}, CitationLinks("http://test"))
    response = Response.model_validate(response_of(asked, job))
    assert response.status == "failed"
    assert response.error is not None
    assert (response.error.code, response.error.message) == (code, "the reason")
    events = [
        json.loads(part.partition(b"data: ")[2]) for part in ResponseStream(asked).end(job).split(b"\n\n") if part
    ]
    assert [event["type"] for event in events] == [
        *("response.created", "response.queued", "response.in_progress", "response.failed"),
    ]


def test_a_repeat_by_the_client_is_the_same_job(service: Service) -> None:
    body = {"model": "rag", "input": QUESTION}
    ids = [
        service.api.post("/v1/responses", json=body, headers=headers).json()["id"]
        for headers in (
            {"x-stainless-retry-count": "0"},
            {"x-stainless-retry-count": "1"},
            {"x-stainless-retry-count": "0"},
            {"idempotency-key": "a"},
            {"idempotency-key": "a"},
        )
    ]
    assert ids[0] == ids[1]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 3


def test_the_native_routes_show_the_same_job(service: Service) -> None:
    job_id = service.api.post("/chat", json={"query": QUESTION}).json()["job_id"]
    result = service.api.get(f"/result/{job_id}", params={"wait": 30}).json()
    with client_of(service.api) as client:
        response = client.responses.retrieve(f"resp_{job_id.replace('-', '')}")
        asked = client.responses.create(model="rag", input=QUESTION)
    assert response.output_text == result["result"]
    ours = str(asked.id).removeprefix("resp_")
    ours = "-".join((ours[:8], ours[8:12], ours[12:16], ours[16:20], ours[20:]))
    assert [kind for _, kind, _ in read(service.api, ours)][-1] == "finished"


def test_webhooks_are_verified_and_name_the_response(service: Service) -> None:
    with receiving() as receiver, client_of(service.api) as client:
        made = client.webhooks.create(name="bell", url=f"{receiver.url}/a", event_types=["response.completed"])
        other: Any = client.webhooks.create(name="other", url=f"{receiver.url}/b", event_types=["response.failed"])
        try:
            assert (made.name, made.event_types) == ("bell", ["response.completed"])
            assert [endpoint.id for endpoint in client.webhooks.list(limit=1)] == [other.id, made.id]
            answered = client.responses.create(model="rag", input=QUESTION)
            wait_until(lambda: receiver.received, seconds=20)
            rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
            tested = client.webhooks.test(made.id, event_type="response.incomplete")
            assert (tested.status_code, tested.event_type) == (204, "response.incomplete")
            (first, second) = receiver.received
            event = client.webhooks.unwrap(first.body, first.headers, secret=made.signing_secret)
            assert (event.type, event.data.id) == ("response.completed", answered.id)  # type: ignore[union-attr]
            for secret in (made.signing_secret, rotated.signing_secret):
                assert client.webhooks.unwrap(second.body, second.headers, secret=secret).type == "response.incomplete"
            changed = client.webhooks.update(made.id, event_types=["response.cancelled"], name="gong")
            assert (changed.name, changed.event_types) == ("gong", ["response.cancelled"])
            assert client.webhooks.retrieve(made.id) == changed
            for types in (["batch.completed"], []):
                with pytest.raises(openai.BadRequestError) as caught:
                    client.webhooks.update(made.id, event_types=types)  # type: ignore[arg-type]
                assert caught.value.param == "event_types"
        finally:
            for endpoint in (made, other):
                assert client.webhooks.delete(endpoint.id).deleted
