"""Who may use /mcp: keys, scopes, tenants, origins and sizes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from mcp.shared.exceptions import MCPError

from settings import Settings
from tests.api.mcp.clients import client_of
from tests.api.v1.test_errors import serving_with
from tests.support.callers import ISSUER, TAKING_TOKENS, bearer, token

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def test_a_caller_without_a_key_learns_who_issues_tokens(settings: Settings) -> None:
    with serving_with(settings, **TAKING_TOKENS) as api:
        refused = api.post("/mcp", json=PING, headers=ACCEPT)
        assert refused.status_code == 401
        where = refused.headers["www-authenticate"].removeprefix('Bearer resource_metadata="').removesuffix('"')
        assert where == f"{api.base_url}/.well-known/oauth-protected-resource/mcp"
        described = api.get(where).json()
        assert described["resource"] == f"{api.base_url}/mcp"
        assert described["authorization_servers"] == [ISSUER]


def test_users_see_only_what_is_theirs(settings: Settings) -> None:
    ann, ben = token("ann"), token("ben")
    with serving_with(settings, **TAKING_TOKENS) as api:
        accepted = api.post(
            "/uploads", files={"file": ("note.txt", b"The tower is white.")}, headers=bearer(ann)
        ).json()
        asked = api.post("/chat", json={"query": "Which colour?"}, headers=bearer(ann)).json()

        async def use() -> None:
            page = f"rag://uploads/{accepted['upload_id']}/pages/1"
            async with client_of(api, headers=bearer(ann)) as client:
                assert [resource.uri for resource in (await client.list_resources()).resources] == [page]
            async with client_of(api, headers=bearer(ben)) as client:
                assert (await client.list_resources()).resources == []
                for tool, arguments in (
                    ("get_answer", {"job_id": asked["job_id"]}),
                    ("fetch", {"id": page}),
                    ("ask", {"question": "Which colour?", "documents": [accepted["upload_id"]]}),
                ):
                    result = await client.call_tool(tool, arguments)
                    assert result.is_error, tool
                    assert "there is no" in str(result.content)
                with pytest.raises(MCPError, match="there is no"):
                    await client.read_resource(page)

        asyncio.run(use())


def test_a_key_shows_and_runs_only_the_tools_of_its_scopes(settings: Settings) -> None:
    with serving_with(settings, **TAKING_TOKENS) as api:

        async def use(scope: str, tool: str, arguments: dict[str, Any]) -> set[str]:
            async with client_of(api, headers=bearer(token("ann", scope=scope))) as client:
                result = await client.call_tool(tool, arguments)
                assert "the key lacks the scope" in str(result.content)
                return {tool.name for tool in (await client.list_tools()).tools}

        note = {"name": "a.txt", "text": "a"}
        assert "upload" not in asyncio.run(use("query", "upload", note))
        assert asyncio.run(use("upload", "ask", {"question": "Why?"})) == {"upload", "list_documents"}


def test_a_page_of_another_origin_is_refused_with_and_without_keys(api: httpx.Client, settings: Settings) -> None:
    foreign = ACCEPT | {"Origin": "https://evil.example"}
    assert api.post("/mcp", json=PING, headers=foreign).status_code == 403
    with serving_with(settings, **TAKING_TOKENS) as guarded:
        assert guarded.post("/mcp", json=PING, headers=foreign | bearer(token("ann"))).status_code == 403


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"x" * (2 * 1024 * 1024 + 1), 413),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"jsonrpc": "2.0", "id": ' + b"9" * 10_000 + b', "method": "ping"}', 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
    ],
)
def test_a_body_that_is_no_request_is_refused(content: bytes, status: int, api: httpx.Client) -> None:
    for version in ("2025-11-25", "2026-07-28"):
        headers = ACCEPT | {"Content-Type": "application/json", "MCP-Protocol-Version": version}
        response = api.post("/mcp", content=content, headers=headers)
        assert response.status_code == status, (version, response.text)
        assert "Traceback" not in response.text
    assert api.get("/health").status_code == 200


def test_a_call_with_many_wrong_arguments_is_told_a_few_of_them(settings: Settings) -> None:
    with serving_with(settings) as api:

        async def use() -> None:
            async with client_of(api) as client:
                result = await client.call_tool("ask", {f"wrong{number}": number for number in range(20)})
                assert result.is_error
                assert "question: Field required; wrong0: Extra inputs are not permitted" in str(result.content)
                assert "and 16 more problems" in str(result.content)
                result = await client.call_tool("ask", {str(number): number for number in range(10_000)})
                assert "a call has at most 50 arguments" in str(result.content)

        asyncio.run(use())
