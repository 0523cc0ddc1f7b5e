"""The limits of a form with files, and the limits of a user that are checked before the form is read."""

from __future__ import annotations

from fastapi import Request

from api.dependencies import ScopedRoute
from api.middleware.body_limits import declared_bytes
from client.rq.idempotency import IdempotentRequest
from client.rq_client import JobQueue
from errors import IdempotencyConflict

MAX_FILES = 100
# Limits of the form fields other than files. The longest field is the URL of a webhook.
MAX_FIELDS = 10
MAX_FIELD_BYTES = 8 * 1024
# A form has at most these bytes beside its files: the fields, and the heads of its parts.
MAX_FORM_OVERHEAD_BYTES = MAX_FIELDS * MAX_FIELD_BYTES + (MAX_FILES + MAX_FIELDS) * 1024


class UploadRoute(ScopedRoute):
    """The route that takes files. It checks the limits of the user also before the body is read."""

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
