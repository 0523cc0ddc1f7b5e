"""Asking over HTTP, and reading the answer, with a real Valkey and real worker processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import index as command_line
from observability import logs
from settings import Settings
from tests.support.processes import PYTHON, RQ, Fresh, environment, running, wait_until

QUESTION = "When was the lighthouse built?"

WORKERS = {
    "rq worker": [RQ, "worker", "rag_queries", "--with-scheduler"],
    "rq SimpleWorker": [RQ, "worker", "rag_queries", "--worker-class", "rq.worker.SimpleWorker"],
    "rq worker-pool": [RQ, "worker-pool", "rag_queries", "--num-workers", "2"],
    "rq worker, preloaded": [RQ, "worker", "-c", "queues.preload", "rag_queries"],
    "main.py worker": [PYTHON, "main.py", "worker"],
}


def index(path: Path, settings: Settings, **more: str) -> None:
    """Index a file or folder as the command line does, in this process: an interpreter of its own takes 2 s of CPU."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (variables(settings) | more).items():
            patch.setenv(name, value)
        patch.setattr(logs, "configure", lambda *_, **__: None)  # pytest has the log
        assert command_line.main([str(path)]) == 0


def variables(settings: Settings, **more: str) -> dict[str, str]:
    """Return the environment of a process with these settings."""
    return environment(DATA_DIR=str(settings.data_dir), VALKEY_URL=settings.queue_url, **more)


def answer(api: httpx.Client, question: str = QUESTION, *, seconds: float = 30.0) -> dict[str, Any]:
    """Ask and wait for the result."""
    accepted = api.post("/chat", params={"query": question})
    assert accepted.status_code == 202
    deadline = time.monotonic() + seconds
    while True:
        result = api.get(f"/result/{accepted.json()['job_id']}")
        if result.status_code == 200:
            return dict(result.json())
        assert result.status_code == 202
        assert time.monotonic() < deadline, "no result came"
        time.sleep(0.02)


@pytest.mark.parametrize("command", WORKERS.values(), ids=WORKERS)
def test_every_way_to_run_a_worker_answers(
    command: list[str], api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path
) -> None:
    index(pdf, settings)
    with running(
        Fresh(command),
        tmp_path / "worker.log",
        DATA_DIR=str(settings.data_dir),
        VALKEY_URL=settings.queue_url,
        RQ_REDIS_URL=settings.queue_url,
    ) as worker:
        result = answer(api)
        assert result["status"] == "completed", worker.output
    assert {"queue", "embed", "search", "rerank"} <= set(result["times"])
    assert "1887" in result["result"]
    assert result["sources"][0]["name"] == "lighthouse.pdf"
    assert result["sources"][0]["page"] == 1
    assert "built in 1887 by the engineer" in " ".join(result["sources"][0]["quote"].split())


def test_two_stock_workers_share_the_embedded_store_with_its_owner(
    api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path
) -> None:
    index(pdf, settings)
    use = {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": settings.queue_url, "RQ_REDIS_URL": settings.queue_url}
    stock = [RQ, "worker", "rag_queries"]
    with (
        running([PYTHON, "main.py", "worker"], tmp_path / "owner.log", **use),
        running(stock, tmp_path / "one.log", **use) as one,
        running(stock, tmp_path / "two.log", **use) as two,
    ):
        wait_until(lambda: len(api.get("/ready").json()["queues"][0:1]) == 1 and workers(api) == 3)
        jobs = [api.post("/chat", json={"query": QUESTION}).json()["job_id"] for _ in range(12)]
        wait_until(lambda: all(api.get(f"/result/{job}").status_code == 200 for job in jobs), seconds=40)
        results = [api.get(f"/result/{job}").json() for job in jobs]
        assert all("1887" in str(result.get("result")) for result in results), results
        assert "Job OK" in one.output + two.output


def workers(api: httpx.Client) -> int:
    """Count the workers that listen for questions."""
    return int(api.get("/ready").json()["queues"][0]["workers"])
