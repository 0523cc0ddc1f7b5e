"""An OpenAI-shaped server for tests and benchmarks: slow, failing, rate-limiting or trickling as told.

Embeddings are made of word counts, so that texts that share words are near. Answers cite the first source.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

DIMENSIONS = 64
KEY = "sk-stub-0123456789abcdef"


@dataclass
class Behaviour:
    """What the server does. `fail_next` holds statuses for the next calls; `answer` None quotes the first source.

    `break_next` streams break off after three words. An `answer` that is a function is given the messages.
    `calls_of_tools` go with the answer, as a model sends them. `finish_reason` None ends a stream without a word, as a
    proxy does that cuts it. `pause_seconds` go by after the first word of a stream. `before_vectors` is called with the
    texts of a call before their vectors are sent. `refused_models` do not exist.
    """

    chat_delay_seconds: float = 0.0
    embedding_delay_seconds: float = 0.0
    fail_next: list[int] = field(default_factory=list)
    always_fail: int | None = None
    retry_after_seconds: float | None = None
    answer: str | Callable[[list[dict[str, Any]]], str] | None = None
    calls_of_tools: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = "stop"
    pause_seconds: float = 0.0
    echo_key_in_errors: bool = False
    echo_request_in_errors: bool = False
    vectors_withheld: int = 0
    before_vectors: Callable[[list[str]], object] = len
    break_next: int = 0
    refused_models: set[str] = field(default_factory=set)
    dimensions: int = DIMENSIONS
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def chats(self) -> list[dict[str, Any]]:
        return [call for call in self.calls if "messages" in call]


@dataclass(frozen=True)
class OpenAIStub:
    """A running server."""

    url: str
    behaviour: Behaviour


def embedding(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the unit vector of a text's word counts, hashed into so many places."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        vector[zlib.crc32(word.encode()) % dimensions] += 1.0
    norm = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / norm for x in vector]


def make_stub(behaviour: Behaviour) -> FastAPI:
    """Build the server as an ASGI app."""
    app = FastAPI()

    async def refusal(request: Request) -> Response | None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key not in {KEY, "not-needed"}:
            said = f"Incorrect API key provided: {key}." if behaviour.echo_key_in_errors else "Incorrect API key."
            return _error(401, said)
        status = _next_status(behaviour, (await request.json())["model"])
        if status is None:
            return None
        echo = f" for {key}" if behaviour.echo_key_in_errors else ""
        said = f"stub fails with {status}{echo}" + await _echo(request, behaviour)
        response = _error(status, said)
        if behaviour.retry_after_seconds is not None:
            response.headers["retry-after"] = str(behaviour.retry_after_seconds)
        return response

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        body = await request.json()
        delay = behaviour.embedding_delay_seconds  # a test that sees the call may change the delay for the next
        behaviour.calls.append(body)
        if refused := await refusal(request):
            return refused
        await asyncio.sleep(delay)
        return JSONResponse(await _vectors(body, behaviour))

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        delay = behaviour.chat_delay_seconds  # a test that sees the call may change the delay for the next
        behaviour.calls.append(body)
        if refused := await refusal(request):
            return refused
        await asyncio.sleep(delay)
        text = _said(behaviour, body["messages"])
        if body.get("stream"):
            counted = bool((body.get("stream_options") or {}).get("include_usage"))
            parts = _chunks(body["model"], text, behaviour, counted=counted)
            parts = _broken(parts, behaviour)
            return StreamingResponse(parts, media_type="text/event-stream")
        return JSONResponse(_whole(body["model"], text, behaviour))

    return app


async def _vectors(body: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    await asyncio.to_thread(behaviour.before_vectors, texts)
    given = texts[: len(texts) - behaviour.vectors_withheld]
    vectors = [embedding(text, behaviour.dimensions) for text in given]
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


def _next_status(behaviour: Behaviour, model: str) -> int | None:
    """Return the status with which a call is refused; None if it is answered."""
    if model in behaviour.refused_models:
        return 404
    return behaviour.fail_next.pop(0) if behaviour.fail_next else behaviour.always_fail


def _said(behaviour: Behaviour, messages: list[dict[str, Any]]) -> str:
    if behaviour.answer is None:
        return _quote_first_source(messages)
    return behaviour.answer if isinstance(behaviour.answer, str) else behaviour.answer(messages)


def _reason(behaviour: Behaviour) -> str | None:
    return "tool_calls" if behaviour.calls_of_tools else behaviour.finish_reason


async def _echo(request: Request, behaviour: Behaviour) -> str:
    return f" at {await request.body()!r}" if behaviour.echo_request_in_errors else ""


def _quote_first_source(messages: list[dict[str, Any]]) -> str:
    found = re.search(r'<source-(\w+) n="1">\n.*?\n\n(.*?)\n</source-\1>', messages[-1]["content"], re.DOTALL)
    return f"{found[2].split('. ')[0]} [1]." if found else "No source was given."


def _completion(kind: str, model: str) -> dict[str, Any]:
    return {"id": "stub", "object": kind, "created": int(time.time()), "model": model}


def _whole(model: str, text: str, behaviour: Behaviour) -> dict[str, Any]:
    tools = {"tool_calls": behaviour.calls_of_tools} if behaviour.calls_of_tools else {}
    message = {"role": "assistant", "content": text} | tools
    choice = {"index": 0, "message": message, "finish_reason": _reason(behaviour)}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return _completion("chat.completion", model) | {"choices": [choice], "usage": usage}


async def _chunks(model: str, text: str, behaviour: Behaviour, *, counted: bool) -> AsyncIterator[str]:
    def part(choices: list[dict[str, Any]], **more: Any) -> str:
        whole = _completion("chat.completion.chunk", model) | {"choices": choices} | more
        return f"data: {json.dumps(whole)}\n\n"

    for word in re.findall(r"\S+\s*", text):
        yield part([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        if behaviour.pause_seconds:
            await asyncio.sleep(behaviour.pause_seconds)
    if behaviour.calls_of_tools:
        calls = [call | {"index": n} for n, call in enumerate(behaviour.calls_of_tools)]
        yield part([{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}])
    reason = _reason(behaviour)
    if reason is None:
        return
    yield part([{"index": 0, "delta": {}, "finish_reason": reason}])
    if counted:
        yield part([], usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
    yield "data: [DONE]\n\n"


async def _broken(parts: AsyncIterator[str], behaviour: Behaviour) -> AsyncIterator[str]:
    breaks, behaviour.break_next = behaviour.break_next > 0, max(0, behaviour.break_next - 1)
    place = 0
    async for part in parts:
        yield part
        place += 1
        if breaks:
            await asyncio.sleep(0.1)  # longer than the parts of an answer are gathered
        if breaks and place == 3:
            raise ConnectionAbortedError("as the stub was told")


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "stub", "code": None}}, status_code=status)


class _Server(uvicorn.Server):
    """A server that ends as soon as it is told to and all is answered: uvicorn looks ten times a second, and waits."""

    async def main_loop(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ticking = asyncio.create_task(super().main_loop())
        await asyncio.wait({ticking, asyncio.create_task(self._stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        ticking.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()
        await self.lifespan.shutdown()

    def stop(self) -> None:
        """End from another thread."""
        self.should_exit = True
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop.set)


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """Serve an ASGI app from a thread of this process, on a free port of 127.0.0.1; yield its URL.

    `options` are uvicorn's, such as a `port` that the app has again after a restart, or another `host`.
    """
    # Slow answers that nobody reads any more do not hold up its end.
    address: dict[str, Any] = {"port": 0, "host": "127.0.0.1"}
    quiet = {"log_level": "critical", "lifespan": "on", "timeout_graceful_shutdown": 1}
    config = uvicorn.Config(app, **(address | options | quiet))
    server = _Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
    try:
        yield f"http://{config.host}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.stop()
        thread.join(10)


@contextmanager
def openai_stub() -> Iterator[OpenAIStub]:
    """Run a stub server; yield it."""
    behaviour = Behaviour()
    with serving(make_stub(behaviour)) as url:
        yield OpenAIStub(url=f"{url}/v1", behaviour=behaviour)
