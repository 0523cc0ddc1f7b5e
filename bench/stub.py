"""A model provider that only waits, cheap enough to stand beside what is measured: `python -m bench.stub`.

Embeddings take 100 ms, answers 1 s or as many seconds as its argument says. Prints its URL on the first line.
"""

from __future__ import annotations

import asyncio
import json
import sys

EMBEDDING_SECONDS = 0.1
CHAT_SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def _response(body: dict[str, object]) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text) + text


USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.1] * 64}
EMBEDDING = _response({"object": "list", "model": "stub", "data": [VECTOR], "usage": USAGE})
MESSAGE = {"role": "assistant", "content": "The lighthouse was built in 1887 [1]."}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
CHAT = _response(
    {"id": "1", "object": "chat.completion", "created": 1, "model": "stub", "choices": [CHOICE], "usage": USAGE}
)

CHUNK: dict[str, object] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "stub"}
STREAM = b"".join(
    b"data: " + json.dumps(CHUNK | part).encode() + b"\n\n"
    for part in (
        {"choices": [{"index": 0, "delta": MESSAGE, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": USAGE},
    )
)
STREAM += b"data: [DONE]\n\n"
STREAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(STREAM) + STREAM


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r", 1)[0]):
            return
        self._buffer = b""
        embedding = b"/embeddings" in head.split(b"\r", 1)[0]
        chat = STREAMED if json.loads(body).get("stream") else CHAT
        answer, seconds = (EMBEDDING, EMBEDDING_SECONDS) if embedding else (chat, CHAT_SECONDS)
        asyncio.get_running_loop().call_later(seconds, self._transport.write, answer)  # type: ignore[attr-defined]


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
