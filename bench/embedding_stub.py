"""The stub model in a process of its own: `python -m bench.embedding_stub PORT SECONDS`, SECONDS for each batch."""

from __future__ import annotations

import sys

import uvicorn

from tests.support.openai_stub import Behaviour, make_stub

if __name__ == "__main__":
    behaviour = Behaviour(embedding_delay_seconds=float(sys.argv[2]))
    uvicorn.run(make_stub(behaviour), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
