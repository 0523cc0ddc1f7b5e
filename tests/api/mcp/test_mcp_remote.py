"""`mcp-remote`, by which hosts that start programs reach /mcp, such as Claude Desktop: as docs/mcp.md configures it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

from api.uvicorn_protocol import uvicorn_options
from server import create_app
from settings import ROOT
from tests.api.v1.conftest import PAGES, Service
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.documents import snippets
from tests.support.openai_stub import serving
from tests.support.other_clients import CLIENTS, needs_clients, needs_node
from tests.support.processes import environment

pytestmark = [needs_clients, needs_node]


def configured(url: str, key: str) -> StdioServerParameters:
    """Return the program that a host starts by the documented settings; npx would fetch the same package."""
    (settings,) = (snippet.text for snippet in snippets(ROOT / "docs" / "mcp.md") if "mcp-remote" in snippet.text)
    (server,) = json.loads(settings.replace("http://127.0.0.1:8000", url))["mcpServers"].values()
    package, *arguments = server["args"]
    assert (server["command"], package) == ("npx", "mcp-remote")
    variables = {name: value.replace("KEY", key) for name, value in server["env"].items()}
    return StdioServerParameters(
        command=str(CLIENTS / "node_modules" / ".bin" / package), args=arguments, env=environment() | variables
    )


def test_a_host_that_starts_programs_asks_and_cites(service: Service, tmp_path: Path) -> None:
    app = create_app(service.settings.model_copy(update=TAKING_TOKENS))

    async def use(url: str) -> tuple[set[str], dict[str, Any]]:
        server = configured(url, token("ann"))
        assert server.env is not None
        server.env["MCP_REMOTE_CONFIG_DIR"] = str(tmp_path)
        with (tmp_path / "log").open("w") as log:
            async with Client(stdio_client(server, errlog=log), mode="legacy") as client:
                tools = {tool.name for tool in (await client.list_tools()).tools}
                sent = await client.call_tool("upload", {"name": "lighthouse.txt", "text": PAGES[0]})
                documents = [(sent.structured_content or {})["upload_id"]]
                asked = {"question": "When was the lighthouse built?", "documents": documents}
                answer = await client.call_tool("ask", asked, read_timeout_seconds=60)
                return tools, dict(answer.structured_content or {})

    with serving(app, **uvicorn_options(service.settings)) as url:
        tools, answer = asyncio.run(use(url))
        mine = httpx.get(f"{url}/jobs", headers=bearer(token("ann")), timeout=30).json()["jobs"]
    assert tools == {"ask", "get_answer", "search", "fetch", "list_documents", "upload"}
    assert answer["job_id"] in [job["job_id"] for job in mine]  # asked with the key of the settings
    (source,) = answer["sources"]
    assert (source["quote"], source["page"]) == (PAGES[0], 1)
