"""A server that answers as an Ollama does, as far as the service looks at one: `GET /api/tags`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route


def model(name: str, family: str) -> dict[str, Any]:
    """Return a model as Ollama 0.12 lists it."""
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-01-31T10:11:12.131415161+01:00",
        "size": 2_019_393_189,
        "digest": "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": "3.2B",
            "quantization_level": "Q4_K_M",
        },
    }


def make_ollama(
    models: Sequence[dict[str, Any]], *, answer: str | None = None, asked: list[str] | None = None
) -> Starlette:
    """Build a server that lists models, or gives another `answer`. Notes the paths that it is asked for in `asked`."""

    async def any_path(request: Request) -> Response:
        if asked is not None:
            asked.append(request.url.path)
        if answer == "redirect":
            return RedirectResponse("/elsewhere")
        if answer == "huge":
            return StreamingResponse(_part() for _ in range(2_000))
        if answer == "slow":
            return StreamingResponse(_drops())
        if answer is not None:
            return Response(answer, media_type="application/json")
        return JSONResponse({"models": list(models)})

    return Starlette(routes=[Route("/{path:path}", any_path)])


def _part() -> bytes:
    return b'{"models": [' + b" " * 1_000


async def _drops() -> AsyncIterator[bytes]:
    """Yield a byte now and then, for far longer than anybody should wait."""
    for _ in range(1_000):
        yield b" "
        await asyncio.sleep(0.1)
