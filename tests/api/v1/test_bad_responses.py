"""Requests for responses that are refused: with the parameter's name, and without a repeat of what was sent."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from settings import Settings
from tests.api.v1.test_errors import assert_error, serving_with
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.tables import each

IMAGE = {"role": "user", "content": [{"type": "input_image", "image_url": "secret-text"}]}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs_all"]}
BAD = {
    "no input": ({}, "input", "invalid_request_error"),
    "an empty question": ({"input": " "}, "input", "invalid_request_error"),
    "a NUL": ({"input": "secret-text\x00"}, "input", "invalid_request_error"),
    "a long question": ({"input": "x" * 4001}, "input", "string_above_max_length"),
    "many items": ({"input": [{"role": "user", "content": "a"}] * 10_000}, "input", "array_above_max_length"),
    "many includes": ({"input": "a", "include": [1] * 100_000}, "include", "array_above_max_length"),
    "an item that is a text": ({"input": ["secret-text"]}, "input[0]", "invalid_request_error"),
    "no question": ({"input": [{"role": "assistant", "content": "a"}]}, "input", "invalid_request_error"),
    "a role": ({"input": [{"role": "secret-text", "content": "a"}]}, "input[0].role", "invalid_request_error"),
    "an image": ({"input": [IMAGE]}, "input[0].content[0].type", "unsupported_value"),
    "a call": ({"input": [{"type": "function_call_output"}]}, "input[0].type", "unsupported_value"),
    "another model": ({"input": "a", "model": "secret-text"}, "model", "model_not_found"),
    "long instructions": ({"input": "a", "instructions": "x" * 8001}, "instructions", "string_above_max_length"),
    "few tokens": ({"input": "a", "max_output_tokens": 15}, "max_output_tokens", "invalid_request_error"),
    "a temperature": ({"input": "a", "temperature": 2.1}, "temperature", "invalid_request_error"),
    "metadata": ({"input": "a", "metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_request_error"),
    "calls of tools": ({"input": "a", "max_tool_calls": 0}, "max_tool_calls", "invalid_request_error"),
    "log probabilities": ({"input": "a", "top_logprobs": 1}, "top_logprobs", "unsupported_value"),
    "a JSON answer": (
        {"input": "a", "text": {"format": {"type": "json_object"}}},
        "text.format.type",
        "unsupported_value",
    ),
    "a search of the web": ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_value"),
    "a forced function": (
        {"input": "a", "tools": [{"type": "function", "name": "f"}], "tool_choice": "required"},
        "tool_choice",
        "unsupported_value",
    ),
    "a store": (
        {"input": "a", "tools": [SEARCH | {"vector_store_ids": ["vs_secret-text"]}]},
        "tools[0].vector_store_ids",
        "vector_store_not_found",
    ),
    "no store": (
        {"input": "a", "tools": [SEARCH | {"vector_store_ids": []}]},
        "tools[0].vector_store_ids",
        "invalid_request_error",
    ),
    "a filter": ({"input": "a", "tools": [SEARCH | {"filters": {}}]}, "tools[0].filters", "invalid_request_error"),
    "weights": (
        {"input": "a", "tools": [SEARCH | {"ranking_options": {"hybrid_search": {}}}]},
        "tools[0].ranking_options.hybrid_search",
        "unsupported_value",
    ),
    "two chains": (
        {"input": "a", "conversation": "conv_a", "previous_response_id": "resp_a"},
        "conversation",
        "unsupported_value",
    ),
    "another id": ({"input": "a", "previous_response_id": "msg_a"}, "previous_response_id", "invalid_request_error"),
    "a prompt": ({"input": "a", "prompt": {"id": "p"}}, "prompt", "unsupported_value"),
}


@each("body, param, code", BAD)
def test_a_bad_request_is_refused_with_the_parameter(
    body: dict[str, Any], param: str, code: str, api: httpx.Client
) -> None:
    response = api.post("/v1/responses", json=body)
    error = assert_error(response, 404 if code.endswith("not_found") else 400, code)
    assert error["param"] == param
    assert "secret-text" not in response.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"input": "\\ud800"}', b'{"input": "a", "top_p": NaN}'])
def test_a_body_that_is_no_object_is_refused(body: bytes, api: httpx.Client) -> None:
    assert_error(api.post("/v1/responses", content=body), 400, "invalid_request_error")


def test_ids_of_nothing(api: httpx.Client) -> None:
    unknown = "resp_" + "0" * 32
    for method, path in (
        ("GET", f"/v1/responses/{unknown}"),
        ("GET", f"/v1/responses/{unknown}?stream=true"),
        ("DELETE", f"/v1/responses/{unknown}"),
        ("POST", f"/v1/responses/{unknown}/cancel"),
        ("GET", f"/v1/responses/{unknown}/input_items"),
    ):
        assert assert_error(api.request(method, path), 404, "response_not_found")["param"] == "response_id"
    assert "resp_" in str(assert_error(api.get("/v1/responses/job-1"), 400, "invalid_request_error")["message"])


def test_another_user_and_a_caller_without_the_scope_are_refused(settings: Settings) -> None:
    body = {"input": "Why?", "background": True}
    with serving_with(settings, **TAKING_TOKENS) as api:
        mine = api.post("/v1/responses", json=body, headers=bearer(token("ann"))).json()["id"]
        for method, path in (
            ("GET", ""),
            ("GET", "?stream=true"),
            ("GET", "/input_items"),
            ("POST", "/cancel"),
            ("DELETE", ""),
        ):
            response = api.request(method, f"/v1/responses/{mine}{path}", headers=bearer(token("bob")))
            assert_error(response, 404, "response_not_found")
        chained = api.post("/v1/responses", json=body | {"previous_response_id": mine}, headers=bearer(token("bob")))
        assert_error(chained, 404, "response_not_found")
        assert api.get(f"/v1/responses/{mine}", headers=bearer(token("ann"))).json()["status"] == "queued"
        refused = api.post("/v1/responses", json=body, headers=bearer(token("ann", scope="upload")))
        assert_error(refused, 403, "permission_denied")


def test_a_user_with_too_many_jobs_learns_when_to_ask_again(settings: Settings) -> None:
    with serving_with(settings, max_queued_jobs=1) as api:
        body = {"input": "Why?", "background": True}
        assert api.post("/v1/responses", json=body).status_code == 200
        response = api.post("/v1/responses", json=body)
        assert_error(response, 429, "rate_limit_exceeded")
        assert int(response.headers["retry-after"]) >= 1


def test_a_large_body_is_refused_quickly(api: httpx.Client) -> None:
    started_at = time.perf_counter()
    assert_error(api.post("/v1/responses", json={"input": "x" * 500_000}), 400, "string_above_max_length")
    assert_error(api.post("/v1/responses", json={"input": "x" * 1_000_000}), 413, "request_too_large")
    assert time.perf_counter() - started_at < 5  # 20 ms where nothing else runs
