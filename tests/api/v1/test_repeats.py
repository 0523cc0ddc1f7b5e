"""A request under /v1 that a client repeats, since it saw no answer, does nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.v1.conftest import Service

QUESTION = "When was the lighthouse built?"
REPEATED: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "rag", "input": QUESTION},
    "/v1/chat/completions": {"model": "rag", "messages": [{"role": "user", "content": QUESTION}]},
}
MADE: dict[str, dict[str, Any]] = {
    "/v1/vector_stores": {"name": "once"},
    "/v1/conversations": {"metadata": {"of": "once"}},
}


def ids_of(service: Service, path: str, body: dict[str, Any], name: str, *values: str) -> list[str]:
    """Send a request with each value of a header; return the ids of the answers."""
    return [str(service.api.post(path, json=body, headers={name: value}).json()["id"]) for value in values]


@pytest.mark.parametrize(("path", "body"), REPEATED.items(), ids=REPEATED)
def test_a_repeat_is_the_first_request(path: str, body: dict[str, Any], service: Service) -> None:
    first, second, other = ids_of(service, path, body, "x-stainless-retry-count", *"010")
    assert first == second
    assert other != first


@pytest.mark.parametrize(("path", "body"), MADE.items(), ids=MADE)
def test_a_repeat_never_gets_what_another_user_of_the_program_made(
    path: str, body: dict[str, Any], service: Service
) -> None:
    """A program begins a conversation for each of its users by the same request, and repeats some: each is another."""
    made = ids_of(service, path, body, "x-stainless-retry-count", *"0112")
    assert len(set(made)) == len(made)
    assert len(set(ids_of(service, path, body, "idempotency-key", *[path[4:]] * 2))) == 1


def test_repeated_items_are_added_once(service: Service) -> None:
    conversation = service.api.post("/v1/conversations", json={}).json()["id"]
    path, item = f"/v1/conversations/{conversation}/items", {"role": "user", "content": QUESTION}
    added = [
        service.api.post(path, json={"items": [item, item]}, headers={"x-stainless-retry-count": count}).json()
        for count in "0120"
    ]
    assert added[0] == added[1] == added[2]
    assert added[3]["data"][0]["id"] != added[0]["data"][0]["id"]
    listed = service.api.get(path).json()["data"]
    assert len(listed) == 4
    assert len({one["id"] for one in listed}) == 4
