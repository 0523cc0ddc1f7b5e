"""Requests in their plain form: FastAPI is not asked, and the response is the one that FastAPI gives."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from rq.job import Job
from starlette.types import Message, Receive, Scope, Send

from api.client_connection import ClientConnection
from api.plain_requests import PlainAnswers, PlainRequest, PlainResponse, PlainRoute, PlainStream
from client.rq.ids import new_id
from client.rq.serializer import PlainSerializer
from errors import JobNotFound
from schemas import Caller, KeyScope

QUESTION = {"query": "How long does a charge take?"}
SOURCE = {"n": 1, "upload_id": new_id(), "name": "handbook.pdf", "page": 3, "page_label": "iii", "quote": "four hours"}
SOURCE |= {"score": 0.25, "start": 10, "end": 20}
ANSWER = {"text": "Four hours [1], at 20 °C.", "sources": [SOURCE], "times": {"model": 1e-07, "queue": 1e16}}


def ask(api: httpx.Client) -> str:
    return str(api.post("/chat", json=QUESTION).raise_for_status().json()["job_id"])


def make_job(state: str, api: httpx.Client, valkey: Redis) -> str:
    """Return the id of a job in a state."""
    if state in {"unknown", "malformed"}:
        return new_id() if state == "unknown" else "%C3%A4"
    job_id = ask(api)
    if state == "cancelled":
        api.delete(f"/jobs/{job_id}").raise_for_status()
    elif state != "queued":
        fields: dict[Any, Any] = {"status": state, "started_at": "2026-01-02T03:04:05.000000Z"}
        if state == "started":
            fields["meta"] = PlainSerializer.dumps({"progress": {"stage": "pages", "done": 1, "total": 3}})
        else:
            fields["ended_at"] = "2026-01-02T03:04:06.500000Z"
        valkey.hset(f"rq:job:{job_id}", mapping=fields)
    if state == "finished":
        value = b64encode(PlainSerializer.dumps(ANSWER)).decode()
        valkey.xadd(f"rq:results:{job_id}", {"type": 1, "return_value": value})
    return job_id


def response_of(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    own = {"date", "x-request-id"}
    return response.status_code, response.content, {k: v for k, v in response.headers.items() if k not in own}


@pytest.mark.parametrize("path", ["/job-status/", "/result/"])
@pytest.mark.parametrize("state", ["queued", "started", "finished", "failed", "cancelled", "unknown", "malformed"])
def test_a_job_is_shown_as_by_its_route(state: str, path: str, api: httpx.Client, valkey: Redis) -> None:
    address = f"{path}{make_job(state, api, valkey)}"
    plain, by_route = api.get(address), api.get(f"{address}?wait=0")
    assert response_of(plain) == response_of(by_route)
    assert (state == "finished") == ("Four hours [1], at 20 °C." in plain.text)


@pytest.mark.parametrize("state", ["finished", "failed", "cancelled", "unknown", "malformed"])
@pytest.mark.parametrize("last_seen", [None, "1-0", "end", "strange"])
def test_a_stream_is_the_one_of_its_route(last_seen: str | None, state: str, api: httpx.Client, valkey: Redis) -> None:
    address = f"/jobs/{make_job(state, api, valkey)}/events"
    headers = {} if last_seen is None else {"Last-Event-ID": last_seen}
    plain, by_route = api.get(address, headers=headers), api.get(f"{address}?a=b", headers=headers)
    assert response_of(plain) == response_of(by_route)
    assert ("event: finished" in plain.text) == (state == "finished" and last_seen in {None, "1-0"})


def stored(valkey: Redis, response: httpx.Response) -> tuple[int, dict[str, Any], Any]:
    """Return a response and its job, without what differs from job to job."""
    body = response.raise_for_status().json()
    job_id = body.pop("job_id")
    assert response.headers["location"] == f"/job-status/{job_id}"
    job = Job.fetch(job_id, connection=valkey)
    record = {k: v for k, v in job.to_dict().items() if k not in {"created_at", "enqueued_at", "data", "meta"}}
    record["notes"] = sorted(job.meta)  # which hold the id of the request
    return response.status_code, {**body, "type": response.headers["content-type"]}, (job.args, record)


@pytest.mark.parametrize(
    "question", [QUESTION, {**QUESTION, "k": 3, "priority": "high", "conversation_id": "a", "cache": False}]
)
def test_a_question_is_stored_as_by_its_route(question: dict[str, Any], api: httpx.Client, valkey: Redis) -> None:
    body = json.dumps(question)
    responses = [
        api.post("/chat", content=body, headers={"Content-Type": "application/json"}),
        api.post("/chat", content=body, headers={"Content-Type": "application/json; charset=utf-8"}),
        api.post("/chat", params=question),
        api.post("/chat", params=question, headers={"Idempotency-Key": "once"}),
    ]
    if "conversation_id" in question:
        for response in responses:  # each waits for the one before
            valkey.hdel(f"rq:job:{response.json()['job_id']}", "dependency_id", "dependency_ids")
    first, *others = [stored(valkey, response) for response in responses]
    assert first[2][0][0]["query"] == QUESTION["query"]
    for other in others:
        first[2][1]["status"] = other[2][1]["status"]  # later questions of a conversation are deferred
        first[2][1]["allow_dependency_failures"] = other[2][1].get("allow_dependency_failures")
        other[2][1].setdefault("allow_dependency_failures", None)
        assert first == other


async def echo(request: PlainRequest) -> PlainResponse | None:
    if request.name == "gone":
        raise JobNotFound("gone")
    return None if request.query_string else PlainResponse(200, request.body or request.name.encode())


class Stream:
    """Two parts, and then a wait for ever."""

    def __init__(self) -> None:
        self.is_closed = False

    async def parts(self) -> AsyncGenerator[bytes]:
        try:
            yield b"a"
            yield b"b"
            await asyncio.Event().wait()
        finally:
            self.is_closed = True

    async def answer(self, _request: PlainRequest) -> PlainStream:
        return PlainStream(self.parts(), [(b"content-type", b"text/plain")])


ROUTES = [
    PlainRoute("POST", "/ask", (KeyScope.QUERY,), echo),
    PlainRoute("GET", "/job/{job_id}", (KeyScope.QUERY, KeyScope.UPLOAD), echo),
]


def call(method: str, path: str, *body: bytes, query: bytes = b"", **changes: Any) -> tuple[list[bytes], list[Message]]:
    """Call the middleware; return the bodies that went on to the app, and what was sent."""
    asked, sent, parts = list[bytes](), list[Message](), list(body or [b""])
    caller = Caller(scopes=frozenset(changes.pop("scopes", {KeyScope.QUERY})))
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}
    scope |= {"root_path": "", "state": {"caller": caller}, **changes}

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        whole, more = b"", True
        while more:
            message = await receive()
            whole += message.get("body", b"")
            more = message.get("more_body", False)
        asked.append(whole)

    async def receive() -> Message:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(PlainAnswers(app, ROUTES)(scope, receive, send))
    return asked, sent


@pytest.mark.parametrize(("method", "path"), [("POST", "/ask"), ("GET", "/job/text")])
def test_a_plain_request_is_answered_without_the_app(method: str, path: str) -> None:
    bodies, (start, body) = call(method, path, b"text")
    assert not bodies
    assert (start["status"], body["body"]) == (200, b"text")
    assert dict(start["headers"])[b"content-length"] == b"4"


@pytest.mark.parametrize(
    ("method", "path", "changes"),
    [
        ("POST", "/ask", {"query": b"a=b"}),
        ("POST", "/ask", {"scopes": {KeyScope.UPLOAD}}),
        ("POST", "/ask", {"root_path": "/below"}),
        ("POST", "/ask/", {}),
        ("POST", "/job/text", {}),
        ("GET", "/ask", {}),
        ("GET", "/job/", {}),
        ("GET", "/job/a/b", {}),
        ("GET", "/job/a", {"scopes": set()}),
    ],
)
def test_every_other_request_goes_on_with_its_body(method: str, path: str, changes: dict[str, Any]) -> None:
    assert call(method, path, b"text", **changes) == ([b"text"], [])


def test_a_body_in_parts_goes_on_whole() -> None:
    assert call("POST", "/ask", b"te", b"xt") == ([b"text"], [])


@pytest.mark.parametrize("after", [b"b", None], ids=["while the stream waits", "before its first part"])
def test_a_stream_is_closed_when_the_client_is_gone(after: bytes | None) -> None:
    stream, sent, connection = Stream(), list[Message](), ClientConnection()
    scope = {"type": "http", "method": "GET", "path": "/a", "query_string": b"", "headers": []}
    state = {"caller": Caller(), "connection": connection}

    async def scenario() -> None:
        async def receive() -> Message:
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)
            if message.get("body") == after:
                asyncio.get_running_loop().call_soon(connection.lose)

        routes = [PlainRoute("GET", "/a", (KeyScope.QUERY,), stream.answer)]
        async with asyncio.timeout(20):
            await PlainAnswers(FastAPI(), routes)({**scope, "state": state}, receive, send)

    if after is None:
        connection.lose()
    asyncio.run(scenario())
    assert connection.on_loss is None
    assert stream.is_closed == (after is not None)  # what never ran has nothing to close
    assert [message.get("body") for message in sent] == ([None, b"a", b"b"] if after else [])


def test_a_server_that_ends_cancels_a_stream() -> None:
    stream = Stream()
    scope = {"type": "http", "method": "GET", "path": "/a", "query_string": b"", "headers": []}
    state = {"caller": Caller(), "connection": ClientConnection()}

    async def scenario() -> None:
        waits = asyncio.Event()

        async def send(message: Message) -> None:
            if message.get("body") == b"b":
                waits.set()

        routes = [PlainRoute("GET", "/a", (KeyScope.QUERY,), stream.answer)]
        answers = PlainAnswers(FastAPI(), routes)
        task = asyncio.ensure_future(answers({**scope, "state": state}, None, send))  # type: ignore[arg-type]
        await waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert stream.is_closed


def test_an_error_is_a_problem() -> None:
    bodies, (start, body) = call("GET", "/job/gone")
    assert not bodies
    assert (start["status"], json.loads(body["body"])["detail"]) == (404, "gone")
