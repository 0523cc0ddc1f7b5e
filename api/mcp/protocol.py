"""The server of the package `mcp`: which methods it answers, and what becomes of errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)
from pydantic import ValidationError
from starlette.requests import Request

from api.mcp import tasks
from api.mcp.calls import TASKS, Call
from api.mcp.documents import URI_TEMPLATE, list_documents, read_page
from api.mcp.results import failed
from api.mcp.tools import TOOLS
from errors import AppError, UploadNotFound
from observability.wording import counted
from schemas import KeyScope
from settings import VERSION

log = logging.getLogger("api")

INSTRUCTIONS: Final = (
    "Answers questions of the user's own documents, with the page that each claim stands on. Prefer `ask`; it searches "
    "and answers. Use `search` and `fetch` to read passages and pages yourself. Quote sources with their page."
)
MAX_RESOURCES: Final = 100
# More arguments than any tool has. How many problems of its arguments a call is told.
MAX_ARGUMENTS: Final = 50
MAX_PROBLEMS: Final = 5
Context = ServerRequestContext[Any, Any]
ParamsT = TypeVar("ParamsT")
ResultT = TypeVar("ResultT")


def make_server() -> Server[Any]:
    """Return a server that keeps nothing between requests."""
    server: Server[Any] = Server(
        "rag",
        version=VERSION,
        title="RAG Query API",
        instructions=INSTRUCTIONS,
        # Tools differ between keys; the resources of a user change with each upload.
        cache_hints={"tools/list": CacheHint(ttl_ms=60_000, scope="private")},
        on_list_tools=_guarded(_list_tools),
        on_call_tool=cast("Any", _guarded(_call_tool)),  # a task is no result that the type knows
        on_list_resources=_guarded(_list_resources),
        on_list_resource_templates=_guarded(_list_templates),
        on_read_resource=_guarded(_read_resource),
    )
    server.middleware.clear()  # OpenTelemetry's
    server.extensions[TASKS] = {}
    for method, params, handler in (
        ("tasks/get", tasks.TaskParams, tasks.get),
        ("tasks/update", tasks.UpdateParams, tasks.update),
        ("tasks/cancel", tasks.TaskParams, tasks.cancel),
    ):
        server.add_request_handler(method, params, _guarded(handler))
    return server


def _guarded(handle: Callable[[Call, Any], Awaitable[ResultT]]) -> Callable[[Context, Any], Awaitable[ResultT]]:
    """Return a handler of the package that tells clients our errors, and nothing of any other."""

    async def handle_context(ctx: Context, params: Any) -> ResultT:
        try:
            return await handle(_call_of(ctx), params)
        except MCPError:
            raise
        except AppError as error:
            raise MCPError(INTERNAL_ERROR, error.detail) from None
        except Exception:
            log.exception("a request of MCP failed")
            raise MCPError(INTERNAL_ERROR, "internal error: the server's log says why") from None

    return handle_context


def _call_of(ctx: Context) -> Call:
    declared = ctx.session.client_capabilities
    extensions = (declared.extensions if declared is not None else None) or {}

    async def report(progress: float, message: str) -> None:
        await ctx.session.report_progress(progress, message=message)

    request: Request = cast("Request", ctx.request)
    return Call(request, report, takes_tasks=TASKS in extensions)


async def _list_tools(call: Call, _params: PaginatedRequestParams | None) -> ListToolsResult:
    """List the tools that the caller may use."""
    return ListToolsResult(tools=[entry.tool for entry in TOOLS.values() if call.caller.has_scope(*entry.scopes)])


async def _call_tool(call: Call, params: CallToolRequestParams) -> CallToolResult | dict[str, Any]:
    """Run a tool. What it cannot do is a result that says so, which models read; an unknown tool is an error."""
    entry = TOOLS.get(params.name)
    if entry is None:
        raise MCPError(INVALID_PARAMS, f"there is no such tool: use one of {', '.join(TOOLS)}")
    try:
        call.require_scope(*entry.scopes)
        arguments = params.arguments or {}
        if len(arguments) > MAX_ARGUMENTS:
            return failed(f"a call has at most {MAX_ARGUMENTS} arguments")
        return await entry.run(call, entry.arguments.model_validate(arguments))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        more = f"; and {counted(len(problems) - MAX_PROBLEMS, 'more problem')}" if len(problems) > MAX_PROBLEMS else ""
        return failed("; ".join(map(_sentence, problems[:MAX_PROBLEMS])) + more)
    except AppError as error:
        return failed(error.detail)


def _sentence(problem: Any) -> str:
    """Return what is wrong with an argument, without its value."""
    place = ".".join(str(part) for part in problem["loc"] if isinstance(part, int) or str(part).isidentifier())
    return f"{place[:60] or 'an argument'}: {problem['msg']}"


async def _list_resources(call: Call, params: PaginatedRequestParams | None) -> ListResourcesResult:
    """List the documents, each by its first page."""
    call.require_scope(KeyScope.QUERY, KeyScope.UPLOAD)
    cursor = params.cursor if params is not None else None
    try:
        listed = await list_documents(call, limit=MAX_RESOURCES, cursor=cursor)
    except AppError as error:
        raise MCPError(INVALID_PARAMS if cursor else INTERNAL_ERROR, error.detail) from None
    resources = [
        Resource(
            uri=document.uri,
            name=document.name,
            description=counted(document.pages or 0, "page"),
            mime_type="text/plain",
        )
        for document in listed.documents
    ]
    return ListResourcesResult(resources=resources, next_cursor=listed.next, ttl_ms=0, cache_scope="private")


async def _list_templates(_call: Call, _params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    page = ResourceTemplate(
        name="page", uri_template=URI_TEMPLATE, description="The text of a page, from 1", mime_type="text/plain"
    )
    return ListResourceTemplatesResult(resource_templates=[page], ttl_ms=3_600_000, cache_scope="public")


async def _read_resource(call: Call, params: ReadResourceRequestParams) -> ReadResourceResult:
    call.require_scope(KeyScope.QUERY)
    uri = str(params.uri)
    try:
        page = await read_page(call, uri)
    except UploadNotFound as error:
        raise MCPError(INVALID_PARAMS, error.detail, {"uri": uri}) from None
    contents = TextResourceContents(uri=uri, mime_type="text/plain", text=page.text)
    return ReadResourceResult(contents=[contents], ttl_ms=0, cache_scope="private")
