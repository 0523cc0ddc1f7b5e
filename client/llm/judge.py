"""The judge of citations: a chat model of the provider that VERIFY_MODEL names."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence

from client.llm.deadline import current_deadline
from errors import ProviderError
from rag.answer.pipeline import ChatModel
from rag.answer.verification import Judgement, judge_prompts, parse_verdicts
from rag.citations.check import Citation
from rag.text.normalize import estimate_tokens
from schemas import Completion
from settings import Settings

log = logging.getLogger(__name__)

# Verdicts that one process remembers, 100 bytes each.
CACHED_VERDICTS = 8_192
# A job that has less time left keeps half of the time to end.
SHARE_OF_TIME_LEFT = 0.5
# A verdict takes 4 tokens; a model that thinks needs room for that first.
TOKENS_OF_A_VERDICT = 8
TOKENS_FOR_THINKING = 2_000


class ChatJudge:
    """Asks once an answer for all verdicts, within a time and a number of tokens. Safe for loops and forks."""

    def __init__(self, chat: ChatModel, model: str, *, seconds: float, tokens: int) -> None:
        """`tokens` bounds the sources and claims of one answer."""
        self._chat = chat
        self._model = model
        self._seconds = seconds
        self._tokens = tokens
        self._cache: dict[bytes, bool] = {}

    async def judge(self, citations: Sequence[tuple[Citation, str]]) -> Judgement:
        """Return the verdicts. A failure of the provider is logged, and what it leaves open has no verdict."""
        known = {one: verdict for one, text in citations if (verdict := self._cache.get(_key(one, text))) is not None}
        asked = self._within_budget([(one, text) for one, text in citations if one not in known])
        if not asked:
            return Judgement(known)
        try:
            completion = await self._ask(*judge_prompts(asked), max_tokens=len(asked) * TOKENS_OF_A_VERDICT)
        except (ProviderError, TimeoutError) as error:
            cause = error.detail if isinstance(error, ProviderError) else f"it took longer than {self._seconds:g} s"
            log.warning("the citations of an answer stay unchecked, since VERIFY_MODEL failed: %s", cause)
            return Judgement(known)
        verdicts = parse_verdicts(completion.text, asked)
        for one, text in asked:
            if one in verdicts:
                self._remember(_key(one, text), verdict=verdicts[one])
        return Judgement(known | verdicts, completion.usage)

    async def _ask(self, system: str, user: str, *, max_tokens: int) -> Completion:
        left = current_deadline().remaining()
        seconds = self._seconds if left is None else min(self._seconds, left * SHARE_OF_TIME_LEFT)
        async with asyncio.timeout(seconds):
            return await self._chat.complete(
                system, user, model=self._model, temperature=0.0, max_tokens=TOKENS_FOR_THINKING + max_tokens
            )

    def _within_budget(self, citations: list[tuple[Citation, str]]) -> list[tuple[Citation, str]]:
        """Return the citations, from the first on, whose sources and claims fit the budget."""
        left = self._tokens
        asked: list[tuple[Citation, str]] = []
        texts: set[str] = set()
        for citation, text in citations:
            left -= estimate_tokens(citation.claim) + (0 if text in texts else estimate_tokens(text))
            if left < 0:
                log.info("%d citations stay unchecked: VERIFY_TOKENS are used up", len(citations) - len(asked))
                break
            texts.add(text)
            asked.append((citation, text))
        return asked

    def _remember(self, key: bytes, *, verdict: bool) -> None:
        while len(self._cache) >= CACHED_VERDICTS:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = verdict


def make_judge(settings: Settings, chat: ChatModel | None) -> ChatJudge | None:
    """Make the judge, or return None without VERIFY_MODEL or without a provider."""
    if chat is None or settings.verify_model is None:
        return None
    return ChatJudge(
        chat, settings.verify_model, seconds=settings.verify_timeout_seconds, tokens=settings.verify_tokens
    )


def _key(citation: Citation, text: str) -> bytes:
    return hashlib.blake2b(f"{citation.claim}\0{text}".encode(errors="surrogatepass"), digest_size=16).digest()
