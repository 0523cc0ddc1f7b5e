"""A request under /v1 that a client repeats, since it saw no answer, does nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.v1.conftest import Service

QUESTION = "When was the lighthouse built?"
REPEATED: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "rag", "input": QUESTION},
    "/v1/chat/completions": {"model": "rag", "messages": [{"role": "user", "content": QUESTION}]},
    "/v1/vector_stores": {"name": "once"},
    "/v1/conversations": {"metadata": {"of": "once"}},
}


@pytest.mark.parametrize(("path", "body"), REPEATED.items(), ids=REPEATED)
def test_a_repeat_is_the_first_request(path: str, body: dict[str, Any], service: Service) -> None:
    first, second, other = (
        service.api.post(path, json=body, headers={"x-stainless-retry-count": count}).json()["id"] for count in "010"
    )
    assert first == second
    assert other != first
