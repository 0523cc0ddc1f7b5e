"""A reranking endpoint of the shape that Cohere, Jina, Voyage, vLLM, Infinity and llama.cpp share."""

from __future__ import annotations

import asyncio
import math
from http import HTTPStatus

import orjson

from client.llm.deadline import current_deadline
from client.llm.failures import CallFailure, CallTimeout, StatusFailure
from client.llm.http import Endpoint
from client.llm.measuring import describe_call, measured_call
from errors import ProviderError, ProviderKeyRejected, ProviderTimeout, ProviderUnavailable
from settings import Settings

# Short: a question waits for the reranker, and can be answered without it.
TIMEOUT_SECONDS = 5.0
# The longest text to send, in characters.
MAX_CHARS = 4_000


class EndpointReranker:
    """Scores texts with a cross-encoder behind HTTP. Safe for threads, loops and forks."""

    def __init__(self, url: str, *, model: str, key: str | None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.name = model
        self._endpoint = Endpoint(url, key)
        self._timeout_seconds = timeout_seconds

    async def rerank(self, question: str, texts: list[str]) -> list[float]:
        """Return a score from 0 to 1 for each text. Raises ProviderError, and what Deadline.check raises."""
        body = {
            "model": self.name,
            "query": question,
            "documents": [text[:MAX_CHARS] for text in texts],
            "top_n": len(texts),
        }
        try:
            with current_deadline().cancelling_on_stop(), measured_call("rerank"):
                describe_call("rerank", self.name)
                async with asyncio.timeout(self._timeout_seconds):
                    reply = await self._endpoint.post(body)
        except (CallTimeout, TimeoutError):
            raise ProviderTimeout("the reranking endpoint did not answer in time") from None
        except StatusFailure as failure:
            if failure.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise ProviderKeyRejected("the reranking endpoint rejected RERANK_API_KEY: check the key") from None
            raise ProviderUnavailable(f"the reranking endpoint answered {failure.status}") from None
        except CallFailure:
            raise ProviderUnavailable("the reranking endpoint cannot be reached: check RERANK_URL") from None
        return _scores(reply, len(texts))


def make_reranker(settings: Settings) -> EndpointReranker | None:
    """Make the reranker, or return None when RERANK_URL is not set."""
    if settings.rerank_url is None:
        return None
    key = settings.rerank_api_key.get_secret_value() if settings.rerank_api_key else None
    return EndpointReranker(settings.rerank_url, model=settings.rerank_model, key=key)


def _scores(reply: bytes, count: int) -> list[float]:
    """Return the scores in a response, from 0 to 1, in the order of the texts. Some servers send logits instead."""
    try:
        by_index = {int(result["index"]): float(result["relevance_score"]) for result in orjson.loads(reply)["results"]}
        scores = [by_index[index] for index in range(count)]
    except (KeyError, TypeError, ValueError):
        raise ProviderError("the reranking endpoint's answer makes no sense") from None
    if not all(math.isfinite(score) for score in scores):
        raise ProviderError("the reranking endpoint's scores make no sense")
    if all(0 <= score <= 1 for score in scores):
        return scores
    return [1 / (1 + math.exp(-max(-60.0, min(60.0, score)))) for score in scores]
