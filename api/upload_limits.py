"""The limits of a user that are checked before a form with files is read, and the route that reads the form."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from api.dependencies import ScopedRoute
from api.middleware.body_limits import declared_bytes
from api.multipart_forms import MAX_FIELD_BYTES, MAX_FIELDS, MAX_FILES, FileFormRequest
from client.rq.idempotency import IdempotentRequest
from client.rq_client import JobQueue
from errors import IdempotencyConflict

# A form has at most these bytes beside its files: the fields, and the heads of its parts.
MAX_FORM_OVERHEAD_BYTES = MAX_FIELDS * MAX_FIELD_BYTES + (MAX_FILES + MAX_FIELDS) * 1024


class UploadRoute(ScopedRoute):
    """The route that takes files. It checks the limits of the user also before the body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request, and reads its form as FileFormRequest does."""
        handle = super().get_route_handler()

        async def handle_form(request: Request) -> Response:
            return await handle(FileFormRequest(request.scope, request.receive))

        return handle_form

    async def before_body(self, request: Request) -> None:
        """Refuse a user who may upload nothing more. Raises Forbidden, TooManyRequests, and as DocumentService does.

        A repeated request may always be read: its response may be stored under its Idempotency-Key.
        """
        await super().before_body(request)
        state = request.state
        user_id = state.caller.user_id
        key = request.headers.get("idempotency-key")
        if key is not None and await _was_used(key, state.queue, user_id=user_id):
            return
        least_bytes = max(1, declared_bytes(request.scope) - MAX_FORM_OVERHEAD_BYTES)
        await state.documents.check_limits(user_id, files=1, size_bytes=least_bytes)
        await state.quotas.require_uploads(user_id)


async def _was_used(key: str, queue: JobQueue, *, user_id: str) -> bool:
    """Return True if a request came with this Idempotency-Key before."""
    try:
        return await queue.idempotency.find(IdempotentRequest.of(key, {}, user_id=user_id)) is not None
    except IdempotencyConflict:  # it had a body
        return True
