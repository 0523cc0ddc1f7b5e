"""The official client of MCP, and the tasks that it leaves to extensions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
import httpx2
import mcp_types
from mcp.client.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from pydantic import ConfigDict

TASKS = "io.modelcontextprotocol/tasks"
MODERN, LEGACY = "2026-07-28", "legacy"


class Task(mcp_types.Result):
    """A task, as tasks/get and a call of a tool return it."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    poll_interval_ms: int
    ttl_ms: int
    result: dict[str, Any] | None = None


class AboutTask(mcp_types.Request[dict[str, Any], str]):
    """A request about a task, whose header Mcp-Name has the id of the task."""

    name_param = "taskId"


class Answer(mcp_types.Result):
    """Any answer of the methods of tasks."""

    model_config = ConfigDict(extra="allow")

    result_type: str = "complete"


async def send(client: Client, method: str, task_id: str) -> dict[str, Any]:
    """Send a request about a task, and return its answer."""
    request = AboutTask(method=method, params={"taskId": task_id})
    answer = await client.session.send_request(request, Answer)
    return answer.model_dump(by_alias=True)


class Tasks(ClientExtension):
    """Follows tasks to their end. `seen`: each state that was read."""

    identifier = TASKS

    def __init__(self) -> None:
        self.seen: list[str] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Take the result of a call that is a task."""
        return [ResultClaim(result_type="task", model=Task, resolve=self._resolve)]

    async def _resolve(self, task: Task, ctx: ClaimContext) -> mcp_types.CallToolResult:
        self.seen.append(task.status)
        while True:
            request = AboutTask(method="tasks/get", params={"taskId": task.task_id})
            answer = (await ctx.session.send_request(request, Answer)).model_dump(by_alias=True)
            self.seen.append(answer["status"])
            if answer["status"] == "completed":
                return mcp_types.CallToolResult.model_validate(answer["result"])
            await asyncio.sleep(answer["pollIntervalMs"] / 1000)


@asynccontextmanager
async def client_of(
    api: httpx.Client,
    mode: str = MODERN,
    *,
    extensions: Sequence[ClientExtension] = (),
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Client]:
    """Yield a client of a served API, which sends `headers` with each request."""
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(f"{api.base_url}/mcp", http_client=http)
        async with Client(transport, mode=mode, extensions=list(extensions)) as client:
            yield client
