"""The same request twice gives one job: `Idempotency-Key`, kept in Valkey for 24 hours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEPT_SECONDS = 86_400

# KEYS: the idempotency key. ARGV: fingerprint, seconds to keep it, a new job id.
# Returns the id of the job that stands for the key, and 1 when its fingerprint is ours.
RESERVE = """
local known = redis.call('GET', KEYS[1])
if known then
    local id, fingerprint = string.match(known, '^(.*) (.*)$')
    return {id, fingerprint == ARGV[1] and 1 or 0}
end
redis.call('SET', KEYS[1], ARGV[3] .. ' ' .. ARGV[1], 'EX', ARGV[2])
return {ARGV[3], 1}
"""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What makes two requests the same: the caller's key, and a fingerprint of all the request asks for."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, request: Mapping[str, Any], *, user_id: str) -> Idempotency:
        """Describe a request. Keys of two users never meet."""
        text = json.dumps(request, sort_keys=True, ensure_ascii=True, default=str)
        owned = hashlib.sha256(f"{user_id}\0{key}".encode()).hexdigest()
        return cls(key=f"rag:idempotency:{owned}", fingerprint=hashlib.sha256(text.encode()).hexdigest())
