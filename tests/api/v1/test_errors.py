"""Errors under /v1 have OpenAI's shape, whichever layer makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest

from api.uvicorn_protocol import uvicorn_options
from api.v1 import ids
from api.v1.errors import ApiError
from server import create_app
from settings import Settings
from tests.api.v1.clients import client_of
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, str | None]:
    """Check that a response is an error in OpenAI's shape, and return the error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert set(response.json()) == {"error"}
    error = dict(response.json()["error"])
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    return error


@contextmanager
def serving_with(settings: Settings, **changes: object) -> Iterator[httpx.Client]:
    """Serve an API with changed settings; yield a client of it."""
    app = create_app(settings.model_copy(update=changes))
    with serving(app, **uvicorn_options(settings)) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


def test_an_unknown_address_and_a_wrong_method(api: httpx.Client) -> None:
    assert_error(api.get("/v1/nothing"), 404, "not_found")
    response = api.delete("/v1/models")
    assert_error(response, 405, "invalid_request_error")
    assert "GET" in response.headers["allow"]
    assert api.get("/nothing").headers["content-type"] == "application/problem+json"


def test_a_body_over_the_limit(api: httpx.Client) -> None:
    assert_error(api.post("/v1/nothing", content=b"x" * 600_000), 413, "request_too_large")


def test_a_head_over_the_limits(api: httpx.Client) -> None:
    assert_error(api.get("/v1/models", headers={"x-a": "b" * 40_000}), 431, "invalid_request_error")
    assert_error(api.get("/v1/" + "a" * 50_000), 414, "invalid_request_error")


def test_a_websocket_is_refused_like_the_request_that_asks_for_it(settings: Settings) -> None:
    """The refusal must not depend on whether a caller has a key: no WebSocket is open to all."""
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    upgrade |= {"sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    with serving_with(settings, **TAKING_TOKENS) as api:
        assert_error(api.get("/v1/responses", headers=upgrade), 401, "invalid_api_key")
        assert_error(api.get("/v1/responses", headers=upgrade | bearer(token("ann"))), 405, "invalid_request_error")
        assert api.get("/mcp", headers=upgrade).status_code == 401


def test_an_address_that_is_not_utf8(api: httpx.Client) -> None:
    error = assert_error(api.get("/v1/models?limit=%ff"), 400, "invalid_request_error")
    assert error["param"] == "limit"


def test_a_caller_without_a_key_and_with_a_wrong_one(settings: Settings) -> None:
    with serving_with(settings, **TAKING_TOKENS) as api:
        response = api.get("/v1/models")
        assert_error(response, 401, "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"
        with client_of(api, key="wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"


def test_a_caller_beyond_the_limit_learns_when_to_ask_again(settings: Settings) -> None:
    with (
        serving_with(settings, **TAKING_TOKENS, requests_per_minute=1) as api,
        client_of(api, key=token("ann")) as client,
    ):
        client.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            client.models.list()
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_an_overloaded_process_refuses_in_the_same_shape(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.middleware.load_shedding.SLOW_STEPS", 0)
    with serving_with(settings) as api:
        assert_error(api.get("/v1/models"), 503, "server_error")
        assert api.get("/uploads").headers["content-type"] == "application/problem+json"


def test_a_failure_of_the_server_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.v1.models.model_names", lambda _settings: 1 / 0)
    with serving_with(settings) as api:
        error = assert_error(api.get("/v1/models"), 500, "server_error")
    assert "division" not in str(error["message"])


def test_head_has_no_body(api: httpx.Client) -> None:
    response = api.head("/v1/nothing")
    assert response.status_code == 404
    assert response.content == b""


def test_an_id_can_be_read_back() -> None:
    job_id = "0190a8c4-1d2e-7c3a-9f00-0123456789ab"
    theirs = ids.to_theirs(ids.RESPONSE, job_id)
    assert theirs == "resp_0190a8c41d2e7c3a9f000123456789ab"
    assert ids.to_ours(ids.RESPONSE, theirs, param="response_id") == job_id


@pytest.mark.parametrize(
    ("theirs", "status"), [("msg_" + "0" * 32, 400), ("", 400), ("resp_", 404), ("resp_" + "Z" * 32, 404)]
)
def test_another_id_is_refused(theirs: str, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        ids.to_ours(ids.RESPONSE, theirs, param="response_id")
    assert (caught.value.answer_status, caught.value.param) == (status, "response_id")
    assert status == 404 or "begins with resp_" in caught.value.detail
