"""The most frequent requests in their plain form, answered without FastAPI's routing and parameters.

FastAPI takes 0.4 ms of CPU to resolve the parameters of POST /chat, and 0.15 ms for those of GET /job-status. A request
is plain if its path and its parameters can be read without FastAPI. Every other request goes on to its route: so does a
request that is not valid, and FastAPI says what is wrong with it. Routes and plain answers share all that follows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import error_response
from errors import AppError
from schemas import Caller, KeyScope

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A request whose body is complete. `name`: the part of the path after the route's path. `state`: AppState."""

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
class PlainRoute:
    """What answers the plain requests of one route: None for a request that is not plain.

    `path` is the route's template; its only parameter, if any, is the last part. `scopes`: one of them is enough.
    """

    method: str
    path: str
    scopes: tuple[KeyScope, ...]
    answer: Callable[[PlainRequest], Awaitable[PlainResponse | None]]


class PlainAnswers:
    """ASGI middleware that answers the plain requests of some routes. Must stand behind Authentication."""

    def __init__(self, app: ASGIApp, routes: Sequence[PlainRoute]) -> None:
        self._app = app
        self._routes = {(route.method, route.path.partition("{")[0]): route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, name = self._find(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        message: Message | None = None
        body = b""
        if scope["method"] != "GET":
            message = await receive()
            receive = _repeating(message, receive)
            body = message.get("body", b"")
            if message["type"] != "http.request" or message.get("more_body", False):
                await self._app(scope, receive, send)
                return
        request = PlainRequest(
            scope["state"], scope["state"]["caller"], name, scope["query_string"], scope["headers"], body
        )
        scope["route"] = route  # for the log
        try:
            response = await route.answer(request)
        except AppError as error:
            await error_response(error)(scope, receive, send)
            return
        if response is None:
            await self._app(scope, receive, send)
            return
        length = str(len(response.body)).encode()
        headers = [(b"content-length", length), (b"content-type", b"application/json"), *response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    def _find(self, scope: Scope) -> tuple[PlainRoute | None, str]:
        """Return the route of a request that may be plain, and the last part of its path; None for another request."""
        if scope["type"] != "http" or scope.get("root_path"):
            return None, ""
        method, path = scope["method"], scope["path"]
        folder, slash, name = path.rpartition("/")
        route = self._routes.get((method, f"{folder}{slash}")) if folder else self._routes.get((method, path))
        if route is None or not scope["state"]["caller"].has_scope(*route.scopes):
            return None, ""
        return (route, name) if name else (None, "")


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
