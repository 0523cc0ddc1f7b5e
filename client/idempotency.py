"""The same request twice gives one job: `Idempotency-Key`, kept in Valkey for 24 hours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rq.scripts import UNIQUE_ENQUEUE_SCRIPT

KEPT_SECONDS = 86_400

# RQ's script, with a look at the key before and a note after, in one step.
# KEYS and ARGV as RQ's, then KEYS: the idempotency key. ARGV, before RQ's: fingerprint, seconds.
# Returns the id of the job that stands for the key, and 1 when its fingerprint is ours.
ENQUEUE_ONCE = (
    """
local known = redis.call('GET', KEYS[3])
if known then
  local id, fingerprint = string.match(known, '^(.*) (.*)$')
  return {id, fingerprint == ARGV[1] and 1 or 0}
end
local fingerprint, kept = ARGV[1], ARGV[2]
local arguments = {}
for place = 3, #ARGV do arguments[place - 2] = ARGV[place] end
local function enqueue(ARGV)
"""
    + UNIQUE_ENQUEUE_SCRIPT
    + """
end
enqueue(arguments)
redis.call('SET', KEYS[3], arguments[1] .. ' ' .. fingerprint, 'EX', kept)
return {arguments[1], 1}
"""
)


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
