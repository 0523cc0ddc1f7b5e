"""A budget for the bodies that are received at a time: until they are read, they are on disk or in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.body_limits import BodyRefused, body_limit, declared_bytes
from api.problems import error_response
from errors import AppError, ServerBusy, TooManyRequests
from schemas import Caller

MIB = 1024 * 1024
RETRY_AFTER_SECONDS = 5


class BodyBudget:
    """ASGI middleware that refuses a body beyond the bytes that may be held: 429 for a caller, 503 for all.

    Only bodies of paths with `larger_limits` count: see `body_limit`.

    A body counts from the head of its request to the end of the response: its declared size, or what has come so far
    if that is more. Must stand behind Authentication and BodyLimit, which answers when a body grows beyond the budget.
    """

    def __init__(self, app: ASGIApp, *, larger_limits: Mapping[str, int], caller_bytes: int, total_bytes: int) -> None:
        self._app = app
        self._larger_limits = larger_limits
        self._caller_bytes = caller_bytes
        self._total_bytes = total_bytes
        self._held: Counter[str] = Counter()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the answer to a request: without a coroutine of our own, which every open stream would keep."""
        if scope["type"] != "http" or body_limit(self._larger_limits, scope["path"]) is None:
            return self._app(scope, receive, send)
        return self._call_counting(scope, receive, send)

    async def _call_counting(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller = scope["state"]["caller"]
        held = declared_bytes(scope)
        if (refusal := self._refusal(caller.user_id, held)) is not None:
            await error_response(refusal)(scope, receive, send)
            return
        self._held[caller.user_id] += held
        received = 0

        async def counting_receive() -> Message:
            nonlocal held, received
            message = await receive()
            received += len(message.get("body", b""))
            if received > held:
                if (refusal := self._refusal(caller.user_id, received - held)) is not None:
                    raise BodyRefused(refusal)
                self._held[caller.user_id] += received - held
                held = received
            return message

        try:
            await self._app(scope, counting_receive, send)
        finally:
            self._held[caller.user_id] -= held
            if not self._held[caller.user_id]:
                del self._held[caller.user_id]

    def _refusal(self, user_id: str, more_bytes: int) -> AppError | None:
        """Return why so many more bytes may not be held; None if they may. A body alone always fits."""
        if self._held[user_id] and self._held[user_id] + more_bytes > self._caller_bytes:
            return TooManyRequests(
                f"you may send bodies of {self._caller_bytes // MIB} MiB at a time: wait until some have ended",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if self._held and self._held.total() + more_bytes > self._total_bytes:
            return ServerBusy(
                f"the server receives {self._total_bytes // MIB} MiB at a time: try again in {RETRY_AFTER_SECONDS} s",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        return None
