"""Under /v1 while something else happens: silence, an API process that ends, Valkey that is away."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from api.v1.errors import translate
from client.valkey.embedded import EmbeddedValkey
from tests.api.mcp.clients import client_of as mcp_client_of
from tests.api.test_outages import away_api, hung, killed, server
from tests.api.test_watching import finish, start
from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service
from tests.api.v1.test_errors import assert_error
from tests.queues.test_chat import variables
from tests.support.openai_stub import KEY
from tests.support.processes import PYTHON, free_port, running, wait_until
from tests.support.tables import each

__all__ = ["away_api", "server"]  # fixtures

QUESTION = "When was the lighthouse built?"
MESSAGES = [{"role": "user", "content": QUESTION}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "rag", "input": QUESTION},
    "/v1/chat/completions": {"model": "rag", "messages": MESSAGES},
}


@pytest.mark.parametrize(("path", "body"), ASKED.items(), ids=ASKED)
def test_a_silent_stream_has_heartbeats_which_clients_pass_over(
    path: str, body: dict[str, Any], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.events.HEARTBEAT_SECONDS", 0.1)
    service.model.chat_delay_seconds = 1.0
    with service.api.stream("POST", path, json=body | {"stream": True}) as answer:
        lines = list(answer.iter_lines())
    assert [line for line in lines if line.startswith(":")]
    assert "1887" in "".join(lines)
    service.forget()
    service.model.chat_delay_seconds = 1.0
    with client_of(service.api) as client:
        if path == "/v1/responses":
            with client.responses.create(**body, stream=True) as stream:
                assert [event.type for event in stream][-1] == "response.completed"
        else:
            with client.chat.completions.create(**body, stream=True) as chunks:
                assert "1887" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_the_stream_of_a_response_in_the_foreground_is_read_again(service: Service) -> None:
    with client_of(service.api) as client:
        with client.responses.create(model="rag", input=QUESTION, stream=True) as stream:
            events = [event.to_dict() for event in stream]
        response_id = events[0]["response"]["id"]  # type: ignore[index]
        whole = client.responses.create(model="rag", input=QUESTION)
    with client_of(service.replica) as client:
        with client.responses.retrieve(str(response_id), stream=True) as again:
            replayed = [event.to_dict() for event in again]
        with client.responses.retrieve(whole.id, stream=True, starting_after=1) as rest:
            assert next(iter(rest)).sequence_number == 2
    assert [(event["type"], event["sequence_number"]) for event in replayed] == [
        (event["type"], event["sequence_number"]) for event in events
    ]


def test_a_response_in_the_foreground_cannot_be_cancelled(service: Service) -> None:
    response_id = service.api.post("/v1/responses", json=ASKED["/v1/responses"]).json()["id"]
    error = assert_error(service.api.post(f"/v1/responses/{response_id}/cancel"), 400, "invalid_request_error")
    assert error["message"] == "Cannot cancel a synchronous response."


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("path", "body"), ASKED.items(), ids=ASKED)
def test_a_process_that_ends_cancels_nothing_and_the_repeat_gets_the_answer(
    path: str, body: dict[str, Any], streamed: bool, service: Service, tmp_path: Path
) -> None:
    service.model.chat_delay_seconds = 2.0
    port = free_port()
    use = variables(service.settings, OPENAI_BASE_URL=str(service.settings.openai_base_url), OPENAI_API_KEY=KEY)
    use |= {"PORT": str(port), "CHAT_MODEL": "lamp"}
    body = body | {"stream": streamed, "user": f"{path} {streamed}"}
    counts = {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}
    with (
        running([PYTHON, "main.py", "api"], tmp_path / "api.log", **use) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=40) as ending,
        ThreadPoolExecutor(1) as pool,
    ):
        wait_until(lambda: is_served(ending), seconds=60, what=lambda: process.output)
        asked = pool.submit(ending.post, path, json=body, headers=counts[0])
        wait_until(lambda: service.model.chats, seconds=30)
        process.process.send_signal(signal.SIGTERM)
        cut = asked.result(30)
        process.process.wait(30)
    if streamed:
        assert "response.completed" not in cut.text
        assert "[DONE]" not in cut.text
    else:
        assert int(cut.headers["retry-after"]) >= 1
        assert_error(cut, 503, "server_error")
    again = service.api.post(path, json=body, headers=counts[1])
    assert "1887" in again.text
    assert len(service.model.chats) == 1
    assert service.api.get("/jobs").json()["jobs"][0]["status"] == "finished"


def is_served(api: httpx.Client) -> bool:
    try:
        return api.get("/health").status_code == 200
    except httpx.TransportError:
        return False


UNKNOWN = "0" * 32
WHILE_AWAY: dict[str, tuple[str, str, Any]] = {
    "asking": ("POST", "/v1/responses", {"input": "Why?", "background": True}),
    "asking and waiting": ("POST", "/v1/responses", {"input": "Why?"}),
    "asking for a stream": ("POST", "/v1/responses", {"input": "Why?", "stream": True}),
    "a completion": ("POST", "/v1/chat/completions", {"messages": MESSAGES}),
    "a streamed completion": ("POST", "/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    "a response": ("GET", f"/v1/responses/resp_{UNKNOWN}", None),
    "a cancellation": ("POST", f"/v1/responses/resp_{UNKNOWN}/cancel", None),
    "a deletion": ("DELETE", f"/v1/responses/resp_{UNKNOWN}", None),
    "a search": ("POST", "/v1/vector_stores/STORE/search", {"query": "Why?"}),
}


@pytest.mark.parametrize("outage", [killed, hung])
def test_without_valkey_every_question_is_a_503_of_openai_s_shape(
    outage: Any, server: EmbeddedValkey, away_api: httpx.Client
) -> None:
    store_id = away_api.post("/v1/vector_stores", json={}).json()["id"]
    with outage(server):
        for name, (method, path, body) in WHILE_AWAY.items():
            refused = away_api.request(method, path.replace("STORE", store_id), json=body)
            error = assert_error(refused, 503, "server_error")
            assert error["type"] == "server_error", name
            assert int(refused.headers["retry-after"]) >= 1, name
        assert away_api.get("/v1/models").status_code == 200  # needs no Valkey
        assert away_api.get(f"/v1/vector_stores/{store_id}").status_code == 200
    wait_until(lambda: away_api.post("/v1/responses", json={"input": "Why?", "background": True}).status_code == 200)


def test_a_tool_of_mcp_says_that_valkey_is_away(server: EmbeddedValkey, away_api: httpx.Client) -> None:
    async def ask() -> Any:
        async with mcp_client_of(away_api) as client:
            return await client.call_tool("ask", {"question": "Why?"})

    with killed(server):
        told = asyncio.run(ask())
    assert told.is_error
    assert "Valkey" in str(told.content) or "queue" in str(told.content)


def test_a_request_that_waits_outlives_an_outage(server: EmbeddedValkey, away_api: httpx.Client) -> None:
    """Its answer comes when Valkey is back, to those who wait and to those who read the stream."""
    with Redis.from_url(server.url) as valkey, ThreadPoolExecutor(2) as pool:
        bodies = [{"input": f"Why {number}?", "stream": bool(number)} for number in range(2)]
        asked = [pool.submit(away_api.post, "/v1/responses", json=body) for body in bodies]
        wait_until(lambda: len(away_api.get("/jobs").json()["jobs"]) == len(bodies))
        jobs = [job["job_id"] for job in away_api.get("/jobs").json()["jobs"]]
        writers = {job_id: start(valkey, job_id) for job_id in jobs}
        with killed(server):
            wait_until(lambda: away_api.get(f"/job-status/{jobs[0]}").status_code == 503)
            assert not any(one.done() for one in asked)
        wait_until(lambda: away_api.get(f"/job-status/{jobs[0]}").status_code == 200)
        for job_id, writer in writers.items():
            finish(valkey, job_id, writer)
        whole, streamed = (one.result(60) for one in asked)
    assert whole.json()["status"] == "completed"
    assert streamed.text.rstrip().splitlines()[-2] == "event: response.completed"


def test_what_has_expired_is_a_404_and_a_conflict_a_400(api: httpx.Client) -> None:
    """OpenAI's clients repeat a 409 three times, and know neither 410 nor 422."""
    yesterday = int((time.time() - 90_000) * 1000)
    old = uuid.UUID(int=(yesterday << 80) | (7 << 76) | (0b10 << 62) | 12345)
    assert api.get(f"/result/{old}").status_code == 410
    for path in ("", "?stream=true", "/input_items"):
        assert_error(api.get(f"/v1/responses/resp_{old.hex}{path}"), 404, "response_not_found")
    chained = api.post("/v1/responses", json={"input": "Why?", "previous_response_id": f"resp_{old.hex}"})
    assert assert_error(chained, 404, "response_not_found")["param"] == "previous_response_id"
    for status, answered in ((409, 400), (410, 404), (415, 400), (422, 400), (429, 429), (503, 503)):
        assert translate({"title": "a", "detail": "b"}, status)[0] == answered


KEYED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "/v1/responses": ({"input": "Why?", "background": True}, {"input": "How?", "background": True}),
    "/v1/vector_stores": ({"name": "one"}, {"name": "other"}),
    "/v1/conversations": ({"metadata": {"of": "one"}}, {"metadata": {"of": "other"}}),
}


@each("path, bodies", list(KEYED.items()))
def test_a_key_that_another_request_had_is_refused(
    path: str, bodies: tuple[dict[str, Any], dict[str, Any]], api: httpx.Client
) -> None:
    headers = {"idempotency-key": f"key of {path}".replace(" ", "-")}
    first, repeated, other = (api.post(path, json=body, headers=headers) for body in (bodies[0], *bodies))
    assert first.json()["id"] == repeated.json()["id"]
    error = assert_error(other, 400, "invalid_request_error")
    assert "Idempotency-Key" in str(error["message"])
