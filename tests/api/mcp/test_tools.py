"""Tools, tasks and resources of /mcp, by the official client."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from base64 import b64encode
from typing import Any

import mcp_types
import pytest
from mcp.client.extension import advertise
from mcp.shared.exceptions import MCPError

from settings import ROOT
from tests.api.mcp.clients import LEGACY, MODERN, TASKS, Tasks, client_of, send
from tests.api.v1.conftest import Service
from tests.support.documents import snippets
from tests.support.processes import wait_until

QUESTION = "When was the lighthouse built?"


def data_of(result: mcp_types.CallToolResult) -> dict[str, Any]:
    """Return what a tool gives to programs."""
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
def test_an_answer_links_to_its_pages_and_they_can_be_read(mode: str, service: Service) -> None:
    async def use() -> None:
        async with client_of(service.api, mode) as client:
            result = await client.call_tool("ask", {"question": QUESTION, "documents": ["lighthouse.pdf"]})
            answer = data_of(result)
            assert "1887" in answer["text"]
            (source,) = answer["sources"]
            text, link = result.content
            assert isinstance(text, mcp_types.TextContent)
            assert isinstance(link, mcp_types.ResourceLink)
            assert "[1] lighthouse.pdf, page 1: “The lighthouse" in text.text
            assert link.uri == source["uri"]
            (page,) = (await client.read_resource(link.uri)).contents
            assert isinstance(page, mcp_types.TextResourceContents)
            assert source["quote"] in page.text
            assert "1887" in data_of(await client.call_tool("get_answer", {"job_id": answer["job_id"]}))["text"]
            (resource,) = (await client.list_resources()).resources
            assert resource.uri == link.uri

    asyncio.run(use())


def test_an_unknown_tool_and_the_header_of_another_task_are_refused(service: Service) -> None:
    async def use() -> None:
        async with client_of(service.api) as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("secret_tool", {})
            assert caught.value.error.code == mcp_types.INVALID_PARAMS
            listed = {tool.name for tool in (await client.list_tools()).tools}
        assert "secret_tool" not in listed

    asyncio.run(use())
    said: dict[str, Any] = {"protocolVersion": MODERN, "clientInfo": {"name": "test", "version": "1"}}
    said["clientCapabilities"] = {"extensions": {TASKS: {}}}
    params = {"taskId": "one", "_meta": {f"io.modelcontextprotocol/{name}": value for name, value in said.items()}}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": MODERN}
    headers |= {"Mcp-Method": "tasks/get", "Mcp-Name": "another"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": params}
    refused = service.api.post("/mcp", json=body, headers=headers)
    assert "-32020" in refused.text, refused.text


def test_the_script_of_the_documentation_prints_an_answer(service: Service) -> None:
    (script,) = (snippet.text for snippet in snippets(ROOT / "docs" / "mcp.md") if snippet.language == "python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(script.replace("http://127.0.0.1:8000", str(service.api.base_url)), {})  # noqa: S102
    assert "1887" in printed.getvalue()


def test_passages_are_found_with_their_pages(service: Service) -> None:
    async def use() -> None:
        async with client_of(service.api) as client:
            found = data_of(await client.call_tool("search", {"query": "How far is the lamp seen?", "limit": 1}))
            (passage,) = found["results"]
            assert (passage["document"], passage["page"]) == ("lighthouse.pdf", 2)
            page = data_of(await client.call_tool("fetch", {"id": passage["id"]}))
            assert passage["text"] in page["text"]
            assert service.api.get(page["url"]).status_code == 200

    asyncio.run(use())


def test_a_small_document_is_uploaded_and_asked(service: Service) -> None:
    async def use() -> None:
        async with client_of(service.api) as client:
            kettle = b"# Kettle\n\nThe kettle of the keeper holds seven litres."
            given = {"name": "kettle.md", "base64": b64encode(kettle).decode()}
            upload = data_of(await client.call_tool("upload", given))
            service.model.answer = "It holds seven litres [1]."
            asked = {"question": "How much does the kettle hold?", "documents": [upload["upload_id"]]}
            answer = data_of(await client.call_tool("ask", asked))
            assert [source["document"] for source in answer["sources"]] == ["kettle.md"]
            listed = data_of(await client.call_tool("list_documents", {"name": "kettle"}))
            assert [document["status"] for document in listed["documents"]] == ["ready"]
            again = data_of(await client.call_tool("upload", {"name": "same.md", "text": kettle.decode()}))
            assert (again["upload_id"], again["duplicate"]) == (upload["upload_id"], True)

    asyncio.run(use())
    (upload,) = service.api.get("/uploads", params={"name": "kettle"}).json()["uploads"]
    service.api.delete(f"/uploads/{upload['upload_id']}")


def test_a_question_is_a_task_for_a_client_that_knows_tasks(service: Service) -> None:
    service.model.pause_seconds = 0.7

    async def use() -> None:
        tasks = Tasks()
        async with client_of(service.api, extensions=[tasks]) as client:
            assert "1887" in data_of(await client.call_tool("ask", {"question": QUESTION}))["text"]
        assert tasks.seen[0] == "working"
        assert tasks.seen[-1] == "completed"

    asyncio.run(use())


def test_a_task_is_cancelled_by_any_replica(service: Service) -> None:
    service.model.chat_delay_seconds = 60

    async def use() -> None:
        extension = advertise(TASKS)
        async with (
            client_of(service.api, extensions=[extension]) as client,
            client_of(service.replica, extensions=[extension]) as other,
        ):
            background = data_of(await client.call_tool("ask", {"question": QUESTION, "background": True}))
            task_id = background["job_id"]
            assert (await send(other, "tasks/get", task_id))["status"] == "working"
            await send(other, "tasks/update", task_id)
            await send(other, "tasks/cancel", task_id)
            await asyncio.to_thread(
                wait_until, lambda: service.api.get(f"/job-status/{task_id}").json()["status"] == "cancelled"
            )
            assert (await send(client, "tasks/get", task_id))["status"] == "cancelled"
            with pytest.raises(MCPError, match="no task"):
                await send(client, "tasks/get", "01a227f8-5fa8-72f1-8853-6b423a995585")
        async with client_of(service.api) as ignorant:
            with pytest.raises(MCPError, match="must declare the extension") as caught:
                await send(ignorant, "tasks/get", task_id)
            assert caught.value.error.code == mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY

    asyncio.run(use())


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
def test_a_client_is_told_the_progress_and_may_leave(
    mode: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.mcp.asking.REPORT_SECONDS", 0.05)
    service.model.chat_delay_seconds = 60
    told: list[str] = []

    async def use() -> None:
        reported = asyncio.Event()

        async def report(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            told.append(str(message))
            reported.set()

        async with client_of(service.api, mode) as client:
            asked = {"question": f"How far is the lamp seen, {mode}?"}
            call = asyncio.create_task(client.call_tool("ask", asked, progress_callback=report))
            async with asyncio.timeout(20):
                await reported.wait()
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call

    asyncio.run(use())
    assert set(told) <= {"queued", "started", "searching", "answering"} | {f"number {n} in the queue" for n in range(9)}
    newest = service.api.get("/jobs").json()["jobs"][0]["job_id"]
    wait_until(lambda: service.api.get(f"/job-status/{newest}").json()["status"] == "cancelled", seconds=20)


def test_a_slow_answer_is_left_for_later(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.mcp.tools.MAX_WAIT_SECONDS", 0.1)
    service.model.chat_delay_seconds = 60

    async def use() -> None:
        async with client_of(service.api) as client:
            result = await client.call_tool("ask", {"question": "How slow is the lamp?"})
            pending = data_of(result)
            assert pending["status"] in {"queued", "started"}
            assert pending["job_id"] in result.content[0].text  # type: ignore[union-attr]
            service.api.delete(f"/jobs/{pending['job_id']}")
            ended = await client.call_tool("get_answer", {"job_id": pending["job_id"], "wait": 20})
            assert ended.is_error
            assert "cancelled" in str(ended.structured_content)

    asyncio.run(use())


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("ask", {"question": " "}, "question: "),
        ("ask", {"question": "\ud800"}, "question: "),
        ("ask", {"question": "nul \x00"}, "question: "),
        ("ask", {"question": "x" * 4_001}, "question: "),
        ("ask", {"question": "Why?", "depth": 3}, "depth: "),
        ("ask", {"question": "Why?", "documents": ["01a227f8-5fa8-72f1-8853-6b423a995585"]}, "no such upload"),
        ("get_answer", {"job_id": "nonsense"}, "not a job id"),
        ("search", {"query": "Why?", "limit": 51}, "limit: "),
        ("fetch", {"id": "file:///etc/passwd"}, "no such page"),
        ("upload", {"name": "a.md"}, "either text or base64"),
        ("upload", {"name": "a.md", "base64": "%"}, "not valid base64"),
        ("upload", {"name": "a.exe", "base64": b64encode(b"MZ\x00\x01").decode()}, "PDF"),
        ("upload", {"name": "a.md", "text": "x" * (1024 * 1024 + 1)}, "send it to POST /uploads"),
        ("list_documents", {"cursor": "nonsense"}, "cursor"),
    ],
)
def test_wrong_arguments_are_a_result_that_says_why(
    tool: str, arguments: dict[str, Any], told: str, service: Service
) -> None:
    # As sent by hand: the client does not send a lone surrogate.
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    response = service.api.post("/mcp", content=json.dumps(body), headers=headers | accept)
    assert response.status_code == 200, response.text
    result = response.json()["result"]
    assert result["isError"]
    assert told in result["content"][0]["text"]
