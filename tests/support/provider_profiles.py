"""Providers as they are known to behave: what each refuses, and how it says things. Servers for tests."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.support.openai_stub import embedding, serving

REASON = "Let me look at source [1]. Wait."
ANSWER = "It takes 5 hours [1]."
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}

Refusal = Callable[[dict[str, Any]], tuple[int, Any] | None]


def _openai_error(param: str, code: str = "unsupported_parameter") -> dict[str, Any]:
    error = {"message": f"Unsupported: '{param}'.", "type": "invalid_request_error", "param": param, "code": code}
    return {"error": error}


def _openai(body: dict[str, Any]) -> tuple[int, Any] | None:
    """A reasoning model of OpenAI: one temperature, and no max_tokens."""
    if body.get("temperature", 1) != 1:
        return 400, _openai_error("temperature", "unsupported_value")
    if "max_tokens" in body:
        return 400, _openai_error("max_tokens")
    return None


def _azure(body: dict[str, Any]) -> tuple[int, Any] | None:
    """A deployment of an older model."""
    if "max_completion_tokens" in body:
        said = "Unrecognized request argument supplied: max_completion_tokens"
        return 400, {"error": {"message": said, "type": "invalid_request_error", "param": None, "code": None}}
    return None


def _vllm(body: dict[str, Any]) -> tuple[int, Any] | None:
    """A model whose template knows no role `system`, behind a strict gateway of FastAPI."""
    if any(message["role"] == "system" for message in body.get("messages", ())):
        said = "Conversation roles must alternate user/assistant/user/assistant/..."
        return 400, {"object": "error", "message": said, "type": "BadRequestError", "param": None, "code": 400}
    if "stream_options" in body:
        detail = [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs", "input": body}]
        return 422, {"detail": detail}
    return None


def _openrouter(body: dict[str, Any]) -> tuple[int, Any] | None:
    if len(body.get("input", ())) > 10:
        return 400, {"error": {"message": "Provider returned error", "code": 400}}
    return None


def _llama_cpp(body: dict[str, Any]) -> tuple[int, Any] | None:
    """A template that fails, and embeddings as numbers alone."""
    if any(message["role"] == "system" for message in body.get("messages", ())):
        return 500, {"error": {"code": 500, "message": "System role not supported", "type": "server_error"}}
    if body.get("encoding_format") == "base64":
        said = "encoding_format must be float"
        return 400, {"error": {"code": 400, "message": said, "type": "invalid_request_error"}}
    return None


def _lmstudio(body: dict[str, Any]) -> tuple[int, Any] | None:
    if len(body.get("input", ())) > 1:
        return 400, {"error": "'input' is too large: only one text at a time"}
    return None


@dataclass(frozen=True)
class Profile:
    """A provider. `parts` are the deltas of an answer, `vectors` the form of embeddings."""

    refuse: Refusal = lambda _body: None
    parts: tuple[dict[str, Any], ...] = ({"role": "assistant", "content": ANSWER},)
    before: tuple[bytes, ...] = ()
    usage: str = "end"  # or in each chunk, or never
    done: bool = True
    vectors: str = "indexed"  # or reversed, plain or nested


@dataclass
class Server:
    """A running provider. `calls` are the bodies of the requests, `refused` counts those refused."""

    url: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0


PROFILES = {
    "openai": Profile(refuse=_openai),
    "azure": Profile(
        refuse=_azure,
        before=(b'data: {"choices": [], "id": "", "prompt_filter_results": [{"prompt_index": 0}]}\n\n',),
        parts=({"role": "assistant", "content": ""}, {"content": ANSWER}),
    ),
    "ollama": Profile(parts=({"role": "assistant", "content": "", "reasoning": REASON}, {"content": ANSWER})),
    "vllm": Profile(
        refuse=_vllm, parts=({"content": f"{REASON}\n"}, {"content": "</think>\n\n"}, {"content": ANSWER}), usage="each"
    ),
    "openrouter": Profile(
        refuse=_openrouter,
        before=(b": OPENROUTER PROCESSING\n\n",) * 3,
        parts=({"content": "", "reasoning": REASON, "reasoning_details": [{"text": REASON}]}, {"content": ANSWER}),
        vectors="reversed",
    ),
    "llama.cpp": Profile(
        refuse=_llama_cpp, parts=({"content": None}, {"reasoning_content": REASON}, {"content": ANSWER}),
        vectors="nested",
    ),
    "lmstudio": Profile(
        refuse=_lmstudio, parts=({"content": f"<think>{REASON}</think>"}, {"content": f"\n{ANSWER}"}), usage="never",
        done=False, vectors="plain",
    ),
}  # fmt: skip


def make_provider(profile: Profile, server: Server) -> FastAPI:
    """Build a provider as an ASGI app."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        if refused := _refuse(profile, server, body):
            return refused
        if body.get("stream"):
            return StreamingResponse(_events(profile), media_type="text/event-stream")
        message: dict[str, Any] = {}
        for part in profile.parts:
            message |= {
                name: (message.get(name) or "") + value for name, value in part.items() if isinstance(value, str)
            }
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE})

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        body = await request.json()
        if refused := _refuse(profile, server, body):
            return refused
        items = [{"index": n, "embedding": _vector(text, profile, body)} for n, text in enumerate(body["input"])]
        if profile.vectors == "plain":
            items = [{"embedding": item["embedding"]} for item in items]
        return JSONResponse({"data": items[::-1] if profile.vectors == "reversed" else items})

    return app


def _refuse(profile: Profile, server: Server, body: dict[str, Any]) -> Response | None:
    server.calls.append(body)
    refused = profile.refuse(body)
    if refused is None:
        return None
    server.refused += 1
    return JSONResponse(refused[1], status_code=refused[0])


def _vector(text: str, profile: Profile, body: dict[str, Any]) -> Any:
    vector = embedding(text)
    if body.get("encoding_format") == "base64" and profile.vectors in {"indexed", "reversed"}:
        return base64.b64encode(array("f", vector).tobytes()).decode()
    return [vector] if profile.vectors == "nested" else vector


async def _events(profile: Profile) -> AsyncIterator[bytes]:
    for event in profile.before:
        yield event
    for n, part in enumerate(profile.parts, start=1):
        chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": part, "finish_reason": None}]}
        if profile.usage == "each":
            chunk["usage"] = USAGE | {"completion_tokens": n, "total_tokens": 100 + n}
        yield _event(chunk)
    last: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield _event(last | ({"usage": USAGE} if profile.usage == "each" else {}))
    if profile.usage == "end":
        yield _event({"choices": [], "usage": USAGE})
    if profile.done:
        yield b"data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@contextmanager
def provider(profile: Profile) -> Iterator[Server]:
    """Run a provider; yield it."""
    server = Server()
    with serving(make_provider(profile, server)) as url:
        server.url = f"{url}/v1"
        yield server
