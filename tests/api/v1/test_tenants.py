"""No user reaches what another user has under /v1: every route that names something."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import APIRoute

import api.v1
from server import create_app
from tests.conftest import MakeSettings
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving

ALICE, BOB = bearer(token("alice")), bearer(token("bob"))
# Bodies that are accepted from the owner.
BODIES = {
    "/v1/vector_stores/{vector_store_id}/files": {"file_id": "{file_id}"},
    "/v1/vector_stores/{vector_store_id}/files/{file_id}": {"attributes": {}},
    "/v1/vector_stores/{vector_store_id}/file_batches": {"file_ids": ["{file_id}"]},
    "/v1/vector_stores/{vector_store_id}/search": {"query": "a"},
    "/v1/conversations/{conversation_id}": {"metadata": {}},
    "/v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "a"}]},
}
STORE = {"type": "file_search", "vector_store_ids": ["{vector_store_id}"]}
# Names that a request can give in its body, and the parameter of the error.
NAMED: dict[str, tuple[str, dict[str, object]]] = {
    "previous_response_id": ("/v1/responses", {"input": "a", "previous_response_id": "{response_id}"}),
    "conversation": ("/v1/responses", {"input": "a", "conversation": "{conversation_id}"}),
    "tools.vector_store_ids": ("/v1/responses", {"input": "a", "tools": [STORE]}),
    "model": (
        "/v1/chat/completions",
        {"model": "rag:{vector_store_id}", "messages": [{"role": "user", "content": "a"}]},
    ),
    "file_ids": ("/v1/vector_stores", {"file_ids": ["{file_id}"]}),
}


@pytest.fixture
def world(make_settings: MakeSettings, valkey_url: str) -> Iterator[tuple[httpx.Client, list[tuple[str, str]]]]:
    """The API, and its routes under /v1."""
    settings = make_settings(valkey_url=valkey_url).model_copy(update=TAKING_TOKENS)
    modules = [importlib.import_module(f"api.v1.{module.name}") for module in pkgutil.iter_modules(api.v1.__path__)]
    routes = [route for module in modules if hasattr(module, "router") for route in module.router.routes]
    named = [route for route in routes if isinstance(route, APIRoute)]
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client, [(method, route.path) for route in named for method in route.methods or ()]


def furnish(client: httpx.Client) -> dict[str, str]:
    """Give alice one of everything; return the ids by the names of path parameters."""

    def made(path: str, **body: object) -> str:
        answer = client.post(path, headers=ALICE, json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    form = {"files": {"file": ("a.txt", b"text of alice")}, "data": {"purpose": "assistants"}}
    file_id = str(client.post("/v1/files", headers=ALICE, **form).json()["id"])  # type: ignore[arg-type]
    store_id = made("/v1/vector_stores", name="secret-name")
    conversation_id = made("/v1/conversations", items=[{"role": "user", "content": "secret-text"}])
    items = client.get(f"/v1/conversations/{conversation_id}/items", headers=ALICE).json()
    return {
        "file_id": file_id,
        "vector_store_id": store_id,
        "batch_id": made(f"/v1/vector_stores/{store_id}/file_batches", file_ids=[file_id]),
        "conversation_id": conversation_id,
        "item_id": items["data"][0]["id"],
        "response_id": made("/v1/responses", input="secret-text", background=True),
        "name": f"rag:{store_id}",
        "webhook_endpoint_id": made(
            "/v1/webhook_endpoints", name="a", url="https://example.com/hook", event_types=["response.completed"]
        ),
    }


def filled(template: object, ids: dict[str, str]) -> str:
    """Return a path or a body with ids in the place of names."""
    text = template if isinstance(template, str) else httpx.Request("POST", "http://a", json=template).content.decode()
    return re.sub(r"\{(\w+)(?::path)?\}", lambda name: ids.get(name[1], name[0]), text)


def test_nothing_of_another_user_is_found(world: tuple[httpx.Client, list[tuple[str, str]]]) -> None:
    client, routes = world
    ids = furnish(client)
    absent = {name: re.sub(r"[0-9a-f]{32}", "01a00000000070008000000000000001", value) for name, value in ids.items()}

    def call(method: str, path: str, body: object, headers: dict[str, str], named: dict[str, str]) -> httpx.Response:
        content = filled(body, named) if method == "POST" else None
        return client.request(method, filled(path, named), headers=headers, content=content)

    about = [(method, path) for method, path in routes if "{" in path]
    assert len(about) >= 25
    for method, path in about:
        body = BODIES.get(path, {})
        refused, missing = (call(method, path, body, BOB, named) for named in (ids, absent))
        assert refused.status_code == 404, (method, path, refused.text)
        assert refused.text == missing.text, (method, path)
    for param, (path, named_body) in NAMED.items():
        refused = call("POST", path, named_body, BOB, ids)
        assert (refused.status_code, refused.json()["error"]["param"]) == (404, param), refused.text
    for path in {path for method, path in routes if method == "GET" and "{" not in path}:
        listed = client.get(path, headers=BOB)
        assert listed.status_code == 200
        assert not [value for value in ids.values() if value in listed.text], path
    for method, path in about:
        if method == "GET" and not path.endswith("/files/{file_id}/content"):  # of a file that no worker indexes here
            assert call(method, path, {}, ALICE, ids).status_code == 200, path


def test_every_route_wants_a_key_and_a_scope(world: tuple[httpx.Client, list[tuple[str, str]]]) -> None:
    client, routes = world
    nothing = bearer(token("alice", scope="nothing"))
    assert len(routes) >= 40
    for method, path in [*routes, ("POST", "/mcp")]:
        address = re.sub(r"\{[^}]+\}", "x", path)
        content = "{}" if method == "POST" else None
        refused = client.request(method, address, content=content)
        assert refused.status_code == 401, (method, path, refused.text)
        if path != "/mcp":
            assert refused.json()["error"]["type"] == "invalid_request_error", (method, path)
            lacking = client.request(method, address, headers=nothing, content=content)
            assert lacking.status_code == 403, (method, path, lacking.text)


FILE_AND_TEXT = [{"type": "input_file", "file_id": "{file_id}"}, {"type": "input_text", "text": "a"}]
# The same, for other parameters.
ALSO_NAMED: dict[str, tuple[str, dict[str, object]]] = {
    "a file of the input": (
        "/v1/responses",
        {"input": [{"role": "user", "content": FILE_AND_TEXT}]},
    ),
    "a store as the model": ("/v1/responses", {"input": "a", "model": "rag:{vector_store_id}"}),
    "a file of a batch": ("/v1/vector_stores/STORE/file_batches", {"files": [{"file_id": "{file_id}"}]}),
    "a file of a store": ("/v1/vector_stores/STORE/files", {"file_id": "{file_id}"}),
    "a response to compact": (
        "/v1/responses/compact",
        {"input": "a", "model": "rag", "previous_response_id": "{response_id}"},
    ),
    "a response to count": ("/v1/responses/input_tokens", {"input": "a", "previous_response_id": "{response_id}"}),
}


def test_nothing_of_another_user_is_named_in_a_body(world: tuple[httpx.Client, list[tuple[str, str]]]) -> None:
    client, _ = world
    ids = furnish(client)
    own_store = client.post("/v1/vector_stores", headers=BOB, json={"name": "of bob"}).json()["id"]
    for name, (path, body) in ALSO_NAMED.items():
        refused = client.post(path.replace("STORE", own_store), headers=BOB, content=filled(body, ids))
        assert refused.status_code == 404, (name, refused.text)
        assert "secret" not in refused.text
