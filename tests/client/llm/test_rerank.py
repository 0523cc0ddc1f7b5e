"""Reranking: an endpoint that orders the passages, and the answer without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from client.llm.deadline import Deadline, apply_deadline
from client.llm.rerank import EndpointReranker, make_reranker
from client.qdrant.bm25 import Bm25Encoder
from errors import JobStopped, ProviderError, ProviderKeyRejected, ProviderTimeout, ProviderUnavailable
from rag.search.retriever import Retriever
from schemas import Query
from tests.conftest import MakeSettings
from tests.rag.answer.test_pipeline import FixedStore
from tests.rag.citations.test_check import passage
from tests.support.models import run
from tests.support.openai_stub import serving

KEY = "rerank-key"


@dataclass
class Endpoint:
    """A reranking server: the server prefers texts that contain `preferred`, or sends `answer` unchanged."""

    url: str = ""
    preferred: str = ""
    answer: Any = None
    status: int = 200
    delay_seconds: float = 0.0
    calls: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Run a reranking server."""
    state, app = Endpoint(), FastAPI()

    @app.post("/rerank")
    async def rerank(request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"detail": "who?"}, status_code=401)
        await asyncio.sleep(state.delay_seconds)
        body = await request.json()
        state.calls.append(body)
        scores = [0.9 if state.preferred in text else 0.1 for text in body["documents"]]
        ranked = sorted(enumerate(scores), key=lambda one: -one[1])
        results = [{"index": index, "relevance_score": score} for index, score in ranked]
        return JSONResponse(state.answer or {"results": results}, status_code=state.status)

    with serving(app) as url:
        state.url = f"{url}/rerank"
        yield state


def retriever(endpoint: Endpoint) -> Retriever:
    found = [passage("Tea is served at four."), passage("Scones cost two crowns.", page=2)]
    for n, one in enumerate(found):
        found[n] = one._replace(chunk=one.chunk.model_copy(update={"id": f"c{n}", "index": n}))
    reranker = EndpointReranker(endpoint.url, model="rerank-1", key=KEY)
    return Retriever(FixedStore(found), Bm25Encoder().terms, reranker=reranker)


def test_the_endpoint_decides_the_order_and_the_scores(endpoint: Endpoint) -> None:
    endpoint.preferred = "Scones"
    found = run(retriever(endpoint).retrieve(Query(query="When is tea?")))
    assert [(p.chunk.page, p.score) for p in found.passages] == [(2, 0.9), (1, 0.1)]
    assert found.reranked_by == "rerank-1"
    [call] = endpoint.calls
    assert (call["model"], call["query"], call["top_n"]) == ("rerank-1", "When is tea?", 2)
    assert call["documents"][0].endswith("Tea is served at four.")


def test_min_score_applies_to_the_scores_of_the_endpoint(endpoint: Endpoint) -> None:
    endpoint.preferred = "Scones"
    found = run(retriever(endpoint).retrieve(Query(query="When is tea?", min_score=0.5)))
    assert [p.chunk.page for p in found.passages] == [2]


def test_a_question_is_answered_when_the_endpoint_fails(endpoint: Endpoint) -> None:
    endpoint.status = 500
    found = run(retriever(endpoint).retrieve(Query(query="When is tea served?")))
    assert found.passages[0].chunk.page == 1
    assert found.reranked_by == "closeness (ProviderUnavailable of rerank-1)"


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ({"results": [{"index": 1, "relevance_score": -4.0}, {"index": 0, "relevance_score": 4.0}]}, [0.982, 0.018]),
        ({"results": [{"index": 1, "relevance_score": 0.25}, {"index": 0, "relevance_score": 1}]}, [1, 0.25]),
    ],
    ids=["logits", "shares"],
)
def test_scores_are_from_0_to_1(endpoint: Endpoint, answer: Any, scores: list[float]) -> None:
    endpoint.answer = answer
    reranker = EndpointReranker(endpoint.url, model="m", key=KEY)
    assert [round(score, 3) for score in run(reranker.rerank("q", ["a", "b"]))] == scores


@pytest.mark.parametrize(
    "answer",
    [
        {"results": []},
        {"results": [{"index": 0}]},
        {"data": 1},
        [1],
        {"results": [{"index": 0, "relevance_score": "NaN"}]},
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(endpoint: Endpoint, answer: Any) -> None:
    endpoint.answer = answer
    with pytest.raises(ProviderError, match=r"makes? no sense"):
        run(EndpointReranker(endpoint.url, model="m", key=KEY).rerank("q", ["a"]))


def test_each_error_names_the_setting_to_check(endpoint: Endpoint) -> None:
    with pytest.raises(ProviderKeyRejected, match="RERANK_API_KEY"):
        run(EndpointReranker(endpoint.url, model="m", key="wrong").rerank("q", ["a"]))
    with pytest.raises(ProviderUnavailable, match="RERANK_URL"):
        run(EndpointReranker("http://127.0.0.1:9/rerank", model="m", key=None).rerank("q", ["a"]))
    endpoint.delay_seconds = 1.0
    with pytest.raises(ProviderTimeout):
        run(EndpointReranker(endpoint.url, model="m", key=KEY, timeout_seconds=0.05).rerank("q", ["a"]))


def test_stopping_a_job_ends_its_reranking(endpoint: Endpoint) -> None:
    endpoint.delay_seconds = 60.0
    deadline = Deadline()
    threading.Timer(0.3, deadline.stop).start()
    with apply_deadline(deadline), pytest.raises(JobStopped):
        run(EndpointReranker(endpoint.url, model="m", key=KEY, timeout_seconds=50).rerank("q", ["a"]))


def test_the_settings_configure_the_reranker(make_settings: MakeSettings, endpoint: Endpoint) -> None:
    assert make_reranker(make_settings()) is None
    made = make_reranker(make_settings(rerank_url=endpoint.url, rerank_api_key=KEY, rerank_model="x"))
    assert made is not None
    assert made.name == "x"
    assert run(made.rerank("q", ["a"])) == [0.9]
