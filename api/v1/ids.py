"""The ids of /v1: a prefix, and the 32 hexadecimal digits of one of our ids, which can be read back."""

from __future__ import annotations

import re
from typing import Final

from api.v1.errors import ApiError

RESPONSE: Final = "resp_"
CHAT_COMPLETION: Final = "chatcmpl-"
MESSAGE: Final = "msg_"
FILE_SEARCH: Final = "fs_"
FILE: Final = "file-"
VECTOR_STORE: Final = "vs_"
FILE_BATCH: Final = "vsfb_"
CONVERSATION: Final = "conv_"
WEBHOOK_ENDPOINT: Final = "we_"

_DIGITS = re.compile(r"[0-9a-f]{32}")
_KINDS: Final = {
    RESPONSE: "response",
    CHAT_COMPLETION: "chat completion",
    FILE: "file",
    VECTOR_STORE: "vector store",
    FILE_BATCH: "file batch",
    CONVERSATION: "conversation",
    WEBHOOK_ENDPOINT: "webhook endpoint",
}


def to_theirs(prefix: str, our_id: str) -> str:
    """Return the id that clients see."""
    return prefix + our_id.replace("-", "")


def to_ours(prefix: str, their_id: str, *, param: str) -> str:
    """Return our id. Raises ApiError: 400 for another prefix, 404 for an id never given."""
    kind = _KINDS[prefix]
    if not their_id.startswith(prefix):
        raise ApiError(f"{param}: the id of a {kind} begins with {prefix}", code="invalid_request_error", param=param)
    digits = their_id.removeprefix(prefix)
    if not _DIGITS.fullmatch(digits):
        raise not_found(prefix, param=param)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def not_found(prefix: str, *, param: str) -> ApiError:
    """Return the error for an id that is unknown, expired or another user's."""
    kind = _KINDS[prefix]
    code = f"{kind.replace(' ', '_')}_not_found"
    return ApiError(f"there is no {kind} with this id: check the id", code=code, param=param, status=404)
