"""The most frequent requests in their plain form, answered without FastAPI's routing and parameters.

FastAPI takes 0.4 ms of CPU to resolve the parameters of POST /chat, and 0.15 ms for those of GET /job-status. A request
is plain if its path and its parameters can be read without FastAPI: there are none, or a model of the route reads them.
Every other request goes on to its route: so does a request that is not valid, and FastAPI says what is wrong with it.
Routes and plain answers share all that follows, and the tests compare their responses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.client_connection import ClientConnection
from api.problems import error_response
from errors import AppError
from schemas import Caller, KeyScope

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A request whose body is complete. `name`: the parameter in the path, or "". `state`: AppState."""

    state: Mapping[str, Any]
    caller: Caller
    name: str
    query_string: bytes
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header; None without it."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class PlainResponse:
    """A response whose body is JSON."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, slots=True)
class PlainStream:
    """A response of parts that are sent as they come. The iterator is closed when the client is gone."""

    parts: AsyncGenerator[bytes]
    headers: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PlainRoute:
    """What answers the plain requests of one route: None for a request that is not plain.

    `path` is the route's template; its only parameter, if any, is the second part. `scopes`: one of them is enough.
    """

    method: str
    path: str
    scopes: tuple[KeyScope, ...]
    answer: Callable[[PlainRequest], Awaitable[PlainResponse | PlainStream | None]]


class PlainAnswers:
    """ASGI middleware that answers the plain requests of some routes. Must stand behind Authentication."""

    def __init__(self, app: ASGIApp, routes: Sequence[PlainRoute]) -> None:
        self._app = app
        self._routes = {(route.method, _template(route.path.split("/"))): route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, name = self._find(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        body, receive = await _read_body(scope, receive)
        response = None
        if body is not None:
            state = scope["state"]
            scope["route"] = route  # for the log
            try:
                response = await route.answer(
                    PlainRequest(state, state["caller"], name, scope["query_string"], scope["headers"], body)
                )
            except AppError as error:
                await error_response(error, state.get("settings"))(scope, receive, send)
                return
        if response is None:
            await self._app(scope, receive, send)
        elif isinstance(response, PlainStream):
            await send_stream(response, scope["state"].get("connection") or ClientConnection(), send)
        else:
            await _send_response(response, send)

    def _find(self, scope: Scope) -> tuple[PlainRoute | None, str]:
        """Return the route of a request that may be plain, and the parameter in its path; None for another request."""
        if scope["type"] != "http" or scope.get("root_path"):
            return None, ""
        parts = scope["path"].split("/")
        route = self._routes.get((scope["method"], _template(parts)))
        if route is None or "" in parts[2:] or not scope["state"]["caller"].has_scope(*route.scopes):
            return None, ""
        return route, next(iter(parts[2:]), "")


def _template(parts: Sequence[str]) -> str:
    """Return a path with its parameter as `*`: `/jobs/*/events`."""
    return "/".join([*parts[:2], "*", *parts[3:]] if parts[2:] else parts)


async def _read_body(scope: Scope, receive: Receive) -> tuple[bytes | None, Receive]:
    """Return the body of a request, or None if it comes in parts; and a `receive` that still has the whole body."""
    if scope["method"] == "GET":
        return b"", receive
    message = await receive()
    is_whole = message["type"] == "http.request" and not message.get("more_body", False)
    return message.get("body", b"") if is_whole else None, _repeating(message, receive)


async def _send_response(response: PlainResponse, send: Send) -> None:
    length = str(len(response.body)).encode()
    headers = [(b"content-length", length), (b"content-type", b"application/json"), *response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def send_stream(response: PlainStream, connection: ClientConnection, send: Send) -> None:
    """Send a stream until its end, or until the client is gone.

    Starlette's StreamingResponse takes two more tasks for this, in a group.
    """
    task = cast("asyncio.Task[None]", asyncio.current_task())
    connection.on_loss = task.cancel
    try:
        if not connection.lost:
            await send({"type": "http.response.start", "status": 200, "headers": list(response.headers)})
            async for part in response.parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
    except asyncio.CancelledError:
        if not connection.lost or task.uncancel():
            raise  # the server ends
    finally:
        connection.on_loss = None
        await response.parts.aclose()


def _repeating(message: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives a message again, and then goes on."""
    repeated = False

    async def receive_again() -> Message:
        nonlocal repeated
        if repeated:
            return await receive()
        repeated = True
        return message

    return receive_again
