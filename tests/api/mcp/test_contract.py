"""What the protocol promises of a task, of a conversation and of the package that speaks it."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

from mcp.client.extension import advertise
from mcp_types import CallToolRequest, CallToolRequestParams

from tests.api.mcp.clients import LEGACY, TASKS, Answer, Task, client_of, send
from tests.api.mcp.test_tools import QUESTION, data_of
from tests.api.v1.conftest import Service
from tests.support.processes import PYTHON, ROOT, environment

IMPORTED = """
import sys
import httpx
from server import create_app
from settings import load_settings
from tests.support.openai_stub import serving

app = create_app(load_settings(valkey_url="redis://127.0.0.1:1", data_dir=sys.argv[1]))
ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
accept = {"accept": "application/json, text/event-stream"}
with serving(app) as url, httpx.Client(base_url=url, timeout=60) as api:
    for method, path in (("GET", "/health"), ("GET", "/v1/models"), ("POST", "/mcp")):
        status = api.request(method, path, json=ping if path == "/mcp" else None, headers=accept).status_code
        print(status, "mcp" in sys.modules or "mcp_types" in sys.modules)
"""


def test_a_task_says_how_often_to_ask_and_how_long_it_lives(service: Service) -> None:
    async def use() -> tuple[dict[str, Any], dict[str, Any]]:
        async with client_of(service.api, extensions=[advertise(TASKS)]) as client:
            asked = CallToolRequestParams(name="ask", arguments={"question": QUESTION})
            made = await client.session.send_request(CallToolRequest(params=asked), Answer)
            task = made.model_dump(by_alias=True)
            while True:
                state = await send(client, "tasks/get", task["taskId"])
                if state["status"] != "working":
                    return task, state
                await asyncio.sleep(0.05)

    task, state = asyncio.run(use())
    assert task["resultType"] == "task"
    assert state["resultType"] == "complete"
    for one in (task, state):
        assert Task.model_validate(one | {"resultType": "task"}).poll_interval_ms == 500
        assert one["ttlMs"] == service.settings.result_ttl_seconds * 1000
        assert one["createdAt"] <= one["lastUpdatedAt"]
    assert "1887" in state["result"]["structuredContent"]["text"]


def test_questions_of_a_conversation_are_understood_by_the_earlier_ones(service: Service) -> None:
    async def use() -> list[dict[str, Any]]:
        answers = []
        for mode in (LEGACY, "2026-07-28"):  # another client, and another process, goes on with it
            api = service.api if mode == LEGACY else service.replica
            async with client_of(api, mode) as client:
                question = "Who built the lighthouse?" if mode == LEGACY else "And when?"
                asked = {"question": question, "conversation": "tour"}
                answers.append(data_of(await client.call_tool("ask", asked)))
                service.model.answer = QUESTION
        return answers

    asyncio.run(use())
    rewriting = [call["messages"][-1]["content"] for call in service.model.chats if "<turn-" in str(call["messages"])]
    assert len(rewriting) == 1
    assert "Question: Who built the lighthouse?" in rewriting[0]
    items = service.api.get("/conversations/tour/items").json()["items"]
    assert [item["text"] for item in items if item["role"] == "user"] == ["Who built the lighthouse?", "And when?"]
    service.api.delete("/conversations/tour")


def test_the_package_of_the_protocol_is_imported_by_the_first_call_only(tmp_path: Any) -> None:
    """The package takes 18 MB, which an API that nobody calls by MCP does not need."""
    done = subprocess.run(
        [PYTHON, "-c", IMPORTED, str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.splitlines()[-3:] == ["200 False", "200 False", "200 True"], done.stdout + done.stderr
