"""An Ollama on this machine, noticed while no model provider is set."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

URL = "http://127.0.0.1:11434"
# For the whole answer: a server that sends a byte now and then gets no more.
TIMEOUT_SECONDS = 2.0
MAX_BYTES = 1_000_000
# Models to pull where there is none yet.
CHAT_MODEL, EMBEDDING_MODEL = "llama3.2", "nomic-embed-text"
_EMBEDS = re.compile(r"embed|bge|minilm|bert|gte-|e5-")


@dataclass(frozen=True, slots=True)
class Ollama:
    """An Ollama that answers: the models that it runs itself, and the settings that use it, one a line."""

    models: list[str]
    settings: list[str]


async def find() -> Ollama | None:
    """Return the Ollama of this machine; None if none answers.

    Asks only for the list of its models, always at the same address, never through a proxy, and follows no redirect.
    """
    body = b""
    try:
        # verify=False: there is no TLS here, and loading the certificates costs 20 ms.
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            httpx.AsyncClient(trust_env=False, verify=False) as client,  # noqa: S501
            client.stream("GET", f"{URL}/api/tags") as response,
        ):
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    return None
    except (TimeoutError, httpx.HTTPError):
        return None
    models = _models(body)
    return None if models is None else Ollama([name for name, _ in models], _settings(models))


def _models(body: bytes) -> list[tuple[str, bool]] | None:
    """Return the name of each model, and whether it embeds; None if the body is not the list of an Ollama."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        # A model with a remote host is run by another server, which would be sent what documents say.
        listed = [model for model in orjson.loads(body)["models"] if not model.get("remote_host")]
        named = [(str(model["name"]).removesuffix(":latest"), _family(model)) for model in listed]
        return [
            (name, bool(_EMBEDS.search(name) or _EMBEDS.search(family)))
            for name, family in named
            if name.isprintable() and " " not in name
        ]
    return None


def _family(model: dict[str, Any]) -> str:
    return str((model.get("details") or {}).get("family", ""))


def _settings(models: Sequence[tuple[str, bool]]) -> list[str]:
    chat = next((name for name, embeds in models if not embeds), None)
    embedding = next((name for name, embeds in models if embeds), None)
    return [
        f"OPENAI_BASE_URL={URL}/v1",
        f"CHAT_MODEL={chat or CHAT_MODEL}" + ("" if chat else f"  # after: ollama pull {CHAT_MODEL}"),
        f"EMBEDDING_MODEL={embedding or EMBEDDING_MODEL}"
        + ("" if embedding else f"  # after: ollama pull {EMBEDDING_MODEL}; or bm25, which needs no model"),
    ]
