"""Asks with LiteLLM, by responses and by chat completions, whole and streamed; prints what it saw as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm

QUESTION = "When was the lighthouse built?"
TOOLS: list[Any] = [{"type": "file_search", "vector_store_ids": ["vs_all"]}]
ASKED: dict[str, Any] = {"model": "openai/rag", "num_retries": 0}
CHAT = ASKED | {"messages": [{"role": "user", "content": QUESTION}]}

litellm.suppress_debug_info = True
whole = litellm.responses(input=QUESTION, tools=TOOLS, **ASKED)
streamed = list(litellm.responses(input=QUESTION, tools=TOOLS, stream=True, **ASKED))
again = litellm.get_responses(streamed[-1].response.id, custom_llm_provider="openai")
completion = litellm.completion(**CHAT)
chunks = list(litellm.completion(stream=True, **CHAT))
seen = {
    "whole": whole.model_dump(mode="json"),
    "streamed": [event.model_dump(mode="json") for event in streamed],
    "again": again.model_dump(mode="json"),
    "completion": completion.model_dump(mode="json"),
    "chunks": [chunk.model_dump(mode="json") for chunk in chunks],
}
sys.stdout.write(json.dumps(seen))
