"""What is too long or too much is refused with a sentence that names the limit, under /v1 and by the tools of /mcp."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from settings import Settings
from tests.api.mcp.clients import client_of as mcp_client_of
from tests.api.v1.test_errors import assert_error, serving_with
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.tables import each

ASKED: dict[str, Any] = {"input": "a", "model": "rag"}
USER = {"role": "user", "content": "a"}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs_all"]}
LONG, MANY, OTHER = "string_above_max_length", "array_above_max_length", "invalid_request_error"


def searching(**options: Any) -> dict[str, Any]:
    """Return a request with options of the tool that searches files."""
    return ASKED | {"tools": [SEARCH | options]}


# Path and body → the parameter, the code, and the limit as the sentence names it.
TOO_MUCH: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    "question": ("/responses", {"input": "x" * 4_001}, "input", LONG, "4,000"),
    "instructions": ("/responses", ASKED | {"instructions": "x" * 8_001}, "instructions", LONG, "8,000"),
    "items": ("/responses", {"input": [USER] * 1_001}, "input", MANY, "1000"),
    "tools": ("/responses", ASKED | {"tools": [{"type": "function", "name": "f"}] * 129}, "tools", MANY, "128"),
    "includes": ("/responses", ASKED | {"include": ["a"] * 101}, "include", MANY, "100"),
    "pairs": ("/responses", ASKED | {"metadata": {str(n): "" for n in range(17)}}, "metadata", OTHER, "16"),
    "a key": ("/responses", ASKED | {"metadata": {"k" * 65: ""}}, "metadata", LONG, "64"),
    "a value": ("/responses", ASKED | {"metadata": {"k": "v" * 513}}, "metadata", LONG, "512"),
    "a model": ("/responses", ASKED | {"model": "m" * 201}, "model", LONG, "200"),
    "a tier": ("/responses", ASKED | {"service_tier": "t" * 65}, "service_tier", LONG, "64"),
    "stores": (
        *("/responses", searching(vector_store_ids=[f"vs_{n:032x}" for n in range(11)])),
        *("tools[0].vector_store_ids", MANY, "10"),
    ),
    "results": ("/responses", searching(max_num_results=51), "tools[0].max_num_results", OTHER, "50"),
    "a threshold": (
        *("/responses", searching(ranking_options={"score_threshold": 1.1})),
        *("tools[0].ranking_options.score_threshold", OTHER, "1"),
    ),
    "messages": ("/chat/completions", {"messages": [USER] * 1_001}, "messages", MANY, "1000"),
    "a message": (
        *("/chat/completions", {"messages": [{"role": "user", "content": "x" * 4_001}]}),
        *("messages[0].content", LONG, "4,000"),
    ),
    "a name": ("/vector_stores", {"name": "x" * 256}, "name", LONG, "255"),
    "days": (
        *("/vector_stores", {"expires_after": {"anchor": "last_active_at", "days": 366}}),
        *("expires_after.days", OTHER, "365"),
    ),
    "files": ("/vector_stores", {"file_ids": ["a"] * 2_001}, "file_ids", MANY, "2000"),
    "a batch": ("/vector_stores/STORE/file_batches", {"file_ids": ["a"] * 2_001}, "file_ids", MANY, "2000"),
    "attributes": (
        *("/vector_stores/STORE/files", {"file_id": "f", "attributes": dict.fromkeys(map(str, range(17)), 1)}),
        *("attributes", OTHER, "16"),
    ),
    "an attribute": (
        *("/vector_stores/STORE/files", {"file_id": "f", "attributes": {"secret-text": "v" * 513}}),
        *("attributes", LONG, "512"),
    ),
    "queries": ("/vector_stores/STORE/search", {"query": ["a"] * 11}, "query", MANY, "10"),
    "a query": ("/vector_stores/STORE/search", {"query": "x" * 4_001}, "query", LONG, "4,000"),
    "items of a conversation": ("/conversations", {"items": [USER] * 21}, "items", MANY, "20"),
}


@each("path, body, param, code, limit", TOO_MUCH)
def test_a_refusal_names_the_parameter_and_the_limit(
    path: str, body: dict[str, Any], param: str, code: str, limit: str, api: httpx.Client
) -> None:
    if "STORE" in path:
        path = path.replace("STORE", str(api.post("/v1/vector_stores", json={}).json()["id"]))
    response = api.post(f"/v1{path}", json=body)
    error = assert_error(response, 400, code)
    assert error["param"] == param
    assert limit in str(error["message"])
    assert "secret-text" not in response.text


def test_a_large_body_is_told_the_limit(api: httpx.Client) -> None:
    for path in ("/v1/responses", "/v1/chat/completions", "/v1/conversations", "/v1/vector_stores"):
        error = assert_error(api.post(path, json={"input": "x" * 600_000}), 413, "request_too_large")
        assert "524288 bytes" in str(error["message"]), path


def test_limits_of_a_user_count_under_v1_and_mcp_alike(settings: Settings) -> None:
    """Whichever way a user asks, the questions count as the same user's."""
    ann, ben = token("ann"), token("ben")
    with serving_with(settings, **TAKING_TOKENS, max_queued_jobs=2) as api:

        def ask(path: str, key: str, **body: Any) -> httpx.Response:
            return api.post(path, json=body, headers=bearer(key))

        assert ask("/v1/responses", ann, input="Why?", background=True).status_code == 200

        async def call(key: str) -> Any:
            async with mcp_client_of(api, headers=bearer(key)) as client:
                return await client.call_tool("ask", {"question": "Why?", "background": True})

        assert not asyncio.run(call(ann)).is_error
        for path, body in (
            ("/v1/responses", {"input": "Why?", "background": True}),
            ("/v1/chat/completions", {"messages": [USER]}),
            ("/v1/vector_stores/STORE/search", {"query": "Why?"}),
        ):
            store_id = api.post("/v1/vector_stores", json={}, headers=bearer(ann)).json()["id"]
            refused = ask(path.replace("STORE", store_id), ann, **body)
            error = assert_error(refused, 429, "rate_limit_exceeded")
            assert "2 of your jobs may wait" in str(error["message"]), error
            assert int(refused.headers["retry-after"]) >= 1
        told = asyncio.run(call(ann))
        assert told.is_error
        assert "2 of your jobs may wait" in str(told.content)
        assert not asyncio.run(call(ben)).is_error


@pytest.fixture
def metered(settings: Settings) -> Iterator[httpx.Client]:
    """An API where a user sends one file a day, and few requests a minute."""
    with serving_with(settings, **TAKING_TOKENS, uploads_per_day=1) as api:
        yield api


def test_a_quota_of_uploads_counts_files_of_v1_and_mcp(metered: httpx.Client) -> None:
    ann = bearer(token("ann"))
    form: dict[str, Any] = {"files": {"file": ("a.txt", b"text of ann")}, "data": {"purpose": "assistants"}}
    assert metered.post("/v1/files", **form, headers=ann).status_code == 200
    other = form | {"files": {"file": ("b.txt", b"other text")}}
    refused = metered.post("/v1/files", **other, headers=ann)
    error = assert_error(refused, 429, "rate_limit_exceeded")
    assert "UPLOADS_PER_DAY" in str(error["message"])

    async def upload() -> Any:
        async with mcp_client_of(metered, headers=ann) as client:
            return await client.call_tool("upload", {"name": "c.txt", "text": "a third text"})

    told = asyncio.run(upload())
    assert told.is_error
    assert "UPLOADS_PER_DAY" in str(told.content)


def test_requests_of_mcp_are_counted(settings: Settings) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accept = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    with serving_with(settings, **TAKING_TOKENS, requests_per_minute=2) as api:
        headers = accept | bearer(token("ann"))
        answers = [api.post("/mcp", json=ping, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert_error(api.get("/v1/models", headers=bearer(token("ann"))), 429, "rate_limit_exceeded")
