"""OpenAI's own client of a served API, which refuses every answer that does not fit OpenAI's types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
from openai import AsyncOpenAI, OpenAI

KEY = "not-needed"


@contextmanager
def client_of(api: httpx.Client, *, key: str = KEY, retries: int = 0) -> Iterator[OpenAI]:
    """Yield a client; `retries`: how often the client repeats a request."""
    with OpenAI(
        base_url=f"{api.base_url}/v1", api_key=key, max_retries=retries, timeout=30, _strict_response_validation=True
    ) as client:
        yield client


@asynccontextmanager
async def async_client_of(api: httpx.Client) -> AsyncIterator[AsyncOpenAI]:
    """Yield a client for coroutines."""
    async with AsyncOpenAI(
        base_url=f"{api.base_url}/v1", api_key=KEY, max_retries=0, timeout=30, _strict_response_validation=True
    ) as client:
        yield client
