"""LangChain's blocking chat model for coroutines: each call runs in a thread of its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from schemas import Completion

if TYPE_CHECKING:
    from client.llm.chat import Chat

# Calls wait for the provider and compute next to nothing.
MAX_THREADS = 1_000


class ThreadedChat:
    """A chat model for coroutines."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def complete(self, system: str, user: str, **options: Any) -> Completion:
        """As Chat.complete."""
        call = partial(copy_context().run, self._chat.complete, system, user, **options)
        # Not the loop's own threads, which are few and compute.
        return await asyncio.get_running_loop().run_in_executor(_threads(), call)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="provider")
