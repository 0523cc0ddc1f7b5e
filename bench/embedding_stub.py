"""The stub model in a process of its own: `python -m bench.embedding_stub PORT SECONDS [SECONDS [MODEL]]`.

The first SECONDS pass before the vectors of each batch, the second before each answer. MODEL does not exist.
"""

from __future__ import annotations

import sys

import uvicorn

from tests.support.openai_stub import Behaviour, make_stub

if __name__ == "__main__":
    port, embedding, answer, *refused = [*sys.argv[1:], "0"][: max(3, len(sys.argv) - 1)]
    behaviour = Behaviour(
        embedding_delay_seconds=float(embedding), chat_delay_seconds=float(answer), refused_models=set(refused)
    )
    uvicorn.run(make_stub(behaviour), host="127.0.0.1", port=int(port), log_level="error")
