"""The model provider of `make chaos`: it writes down each call that ended. `python -m bench.chaos.provider LOG`

Prints its URL on the first line. Each answer is different, so that two runs of one question never give the same.
A worker's API key is its name, so that the log says who called.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.openai_stub import embedding

QUESTION_SECONDS, BATCH_SECONDS = 0.03, 0.2
CHAT_SECONDS = (0.1, 2.0)
TOKENS = 8
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
# By this number of a question the log tells calls apart.
NUMBER = re.compile(r"enquiry (\d+)\)")
_QUESTION = re.compile(r"<question-\w+>\n(.*?)\n</question", re.DOTALL)
_FIRST_SENTENCE = re.compile(r'<source[^>]* n="1">.*?\n\n\s*(.*?)\.\s', re.DOTALL)


class Provider:
    """The server. Its log has a line of JSON for each call that ended: `kind`, `keys`, `caller` and `at`."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/embeddings", self.embed)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """Embed a question, or the chunks of a batch."""
        texts = (await request.json())["input"]
        texts = [texts] if isinstance(texts, str) else texts
        await asyncio.sleep(QUESTION_SECONDS if len(texts) == 1 else BATCH_SECONDS)
        data = [
            {"object": "embedding", "index": index, "embedding": embedding(text)} for index, text in enumerate(texts)
        ]
        kind = "question" if NUMBER.search(texts[0]) else "batch"
        self._note(request, kind, [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts])
        return web.json_response({"object": "list", "model": "stub", "data": data, "usage": USAGE})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Stream an answer from the first source; repeat a question that is to be rewritten."""
        prompt = "\n".join(message["content"] for message in (await request.json())["messages"])
        if "<turn-" in prompt:
            # Not in the log: a rewritten question is not kept, so the attempt after a death asks for it again.
            return web.json_response(_completion(_QUESTION.findall(prompt)[-1]))
        found = _FIRST_SENTENCE.search(prompt)
        answer = f"{found[1]} [1]. Run {uuid.uuid4().hex}." if found else "[NO ANSWER] The sources do not say this."
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        seconds = random.uniform(*CHAT_SECONDS)
        for token in range(TOKENS):
            await asyncio.sleep(seconds / TOKENS)
            begin, end = len(answer) * token // TOKENS, len(answer) * (token + 1) // TOKENS
            await response.write(_event([{"index": 0, "delta": {"content": answer[begin:end]}, "finish_reason": None}]))
        last = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + _event([], usage=USAGE)
        await response.write(last + b"data: [DONE]\n\n")
        await response.write_eof()
        self._note(request, "chat", [NUMBER.findall(prompt)[-1]])
        return response

    def _note(self, request: web.Request, kind: str, keys: list[str]) -> None:
        if request.transport is None or request.transport.is_closing():
            return  # the caller is gone
        caller = request.headers.get("authorization", "").removeprefix("Bearer ")
        with self._log.open("a") as log:
            log.write(json.dumps({"kind": kind, "keys": keys, "caller": caller, "at": time.time()}) + "\n")


def _completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "stub", "choices": [choice], "usage": USAGE}


def _event(choices: list[dict[str, Any]], **fields: object) -> bytes:
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": choices} | fields
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def _serve(log: Path) -> None:
    runner = web.AppRunner(Provider(log).make_app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
