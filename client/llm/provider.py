"""The model provider, any OpenAI-compatible server: its address and its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from settings import Settings

OPENAI_URL = "https://api.openai.com/v1"
CONNECT_TIMEOUT_SECONDS = 5.0
# The time limit of a whole call. That of an answer is the time limit of its job.
EMBEDDING_TIMEOUT_SECONDS = 30.0
# The longest text to embed, in characters. Chunks are far shorter; a question may have 4,000.
MAX_EMBEDDED_CHARS = 8_000


def provider_key(settings: Settings) -> SecretStr:
    """Return the key to send. Local servers require a key but accept any."""
    return settings.openai_api_key or SecretStr("not-needed")


def provider_url(settings: Settings) -> str:
    """Return the address of the provider, to pass to the SDK always: otherwise the SDK reads OPENAI_BASE_URL itself."""
    return settings.openai_base_url or OPENAI_URL
