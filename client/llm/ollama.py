"""An Ollama on this machine, noticed at the start while no model provider is set."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any
from urllib.request import ProxyHandler, build_opener

URL = "http://127.0.0.1:11434"
TIMEOUT_SECONDS = 0.5
MAX_BYTES = 1_000_000
# Models to pull where there is none yet.
CHAT_MODEL, EMBEDDING_MODEL = "llama3.2", "nomic-embed-text"
_EMBEDS = re.compile(r"embed|bge|minilm|bert|gte-|e5-")


def suggested_settings(url: str = URL) -> list[str]:
    """Return the settings that use the Ollama at `url`, one a line; an empty list if no Ollama answers there.

    Asks only for the list of its models, and never through a proxy.
    """
    names = _models(url)
    if names is None:
        return []
    chat = next((name for name in names if not _EMBEDS.search(name)), None)
    embedding = next((name for name in names if _EMBEDS.search(name)), None)
    return [
        f"OPENAI_BASE_URL={url}/v1",
        f"CHAT_MODEL={chat or CHAT_MODEL}" + ("" if chat else f"  # after: ollama pull {CHAT_MODEL}"),
        f"EMBEDDING_MODEL={embedding or EMBEDDING_MODEL}"
        + ("" if embedding else f"  # after: ollama pull {EMBEDDING_MODEL}; or bm25, which needs no model"),
    ]


def _models(url: str) -> list[str] | None:
    """Return the names of the models of an Ollama; None if no Ollama answers."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        with build_opener(ProxyHandler({})).open(f"{url}/api/tags", timeout=TIMEOUT_SECONDS) as response:
            listed: dict[str, Any] = json.loads(response.read(MAX_BYTES))
        names = [str(model["name"]).removesuffix(":latest") for model in listed["models"]]
        return [name for name in names if name.isprintable() and " " not in name]
    return None
