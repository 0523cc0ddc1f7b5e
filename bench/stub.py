"""A model provider that only waits, cheap enough to stand beside what is measured: `python -m bench.stub`.

Embeddings take 100 ms, answers 1 s. Prints its URL on the first line.
"""

from __future__ import annotations

import asyncio
import json

EMBEDDING_SECONDS = 0.1
CHAT_SECONDS = 1.0


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
        answer, seconds = (EMBEDDING, EMBEDDING_SECONDS) if embedding else (CHAT, CHAT_SECONDS)
        asyncio.get_running_loop().call_later(seconds, self._transport.write, answer)  # type: ignore[attr-defined]


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
