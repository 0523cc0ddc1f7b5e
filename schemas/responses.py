"""The request of a response under /v1, kept with the question so that the response can repeat it."""

from __future__ import annotations

from typing import Any

from schemas.base import Frozen


class ResponseRequest(Frozen):
    """What a client sent beside the question. `given` holds the parameters that the response repeats as they came."""

    model: str = "rag"
    input: tuple[dict[str, Any], ...] = ()
    background: bool = False
    store: bool = True
    tools: tuple[dict[str, Any], ...] = ()
    include: tuple[str, ...] = ()
    given: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it
