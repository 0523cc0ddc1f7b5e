"""Requests that a client repeats: with an Idempotency-Key, or as OpenAI's SDKs do by themselves after a failure.

The SDKs send no key but `x-stainless-retry-count`. A repeat with the same caller and the same body within ten minutes
gets the job of the first request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import Request

from api.v1.errors import ApiError
from client.rq.idempotency import IdempotentRequest
from client.rq.ids import new_id
from client.rq_client import JobQueue
from errors import JobExpired, JobNotFound
from schemas import JobStatus

MAX_KEY_CHARS: Final = 255
RETRIED_SECONDS: Final = 600


async def repeated_request(
    request: Request, fields: Mapping[str, Any], queue: JobQueue
) -> tuple[IdempotentRequest | None, str | None]:
    """Return the idempotent request of a key, else the job's id for a request that the SDK may repeat.

    Both are None for a request of another client. Raises ApiError, QueueUnavailable.
    """
    user_id: str = request.state.caller.user_id
    key = request.headers.get("idempotency-key")
    if key is not None:
        if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable() and " " not in key):
            message = f"Idempotency-Key: must be 1 to {MAX_KEY_CHARS} visible ASCII characters"
            raise ApiError(message, code="invalid_request_error", param="Idempotency-Key")
        return IdempotentRequest.of(key, fields, user_id=user_id), None
    count = request.headers.get("x-stainless-retry-count", "")
    if not count.isdecimal():
        return None, None
    digest = hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()
    entry = IdempotentRequest.of(f"sdk {digest}", {}, user_id=user_id)
    if int(count) > 0:
        earlier = await queue.idempotency.find(entry)
        if earlier is not None and await _is_usable(earlier, queue):
            return None, earlier
    job_id = new_id()
    await queue.idempotency.put(entry, job_id, ttl_seconds=RETRIED_SECONDS)
    return None, job_id


async def reserve_id(request: Request, fields: Mapping[str, Any], *, only_by_key: bool = False) -> str:
    """Return the id of what a request creates; of a repeated request, the id that the first one got.

    `only_by_key`: only a key makes a repeat. Two users of one program who begin a conversation send the same request.
    If the SDK repeats one of them, the first user's conversation must not be what the second one gets.
    """
    queue: JobQueue = request.state.queue
    if only_by_key and "idempotency-key" not in request.headers:
        return new_id()
    idempotency, reserved = await repeated_request(request, fields, queue)
    if idempotency is not None:
        return await queue.idempotency.reserve(idempotency, new_id())
    return reserved or new_id()


async def _is_usable(job_id: str, queue: JobQueue) -> bool:
    """Return False for a job that was cancelled, as when its client left; True also for one never submitted."""
    try:
        return (await queue.fetch(job_id)).status is not JobStatus.CANCELLED
    except JobExpired:
        return False
    except JobNotFound:
        return True
