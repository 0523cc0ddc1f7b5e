"""Go faster: start another worker, in another terminal or on another machine.

Workers share nothing but the queues and the stores. Nobody tells the API that a worker has come or gone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.openai_stub import Behaviour
from tests.support.processes import RQ, Fresh, running, wait_until
from tests.support.service import Service


@pytest.mark.usefixtures("handbook_id")
def test_second_worker(service: Service, model: Behaviour, tmp_path: Path) -> None:
    client = service.client

    # The service has one worker, which does one job at a time here. A slow answer keeps it busy.
    model.chat_delay_seconds = 60
    slow = client.post("/chat", json={"query": "How heavy is the lamp?", "cache": False}).json()["job_id"]
    wait_until(lambda: model.chats)
    model.chat_delay_seconds = 0

    # So the next question has to wait: it is the first in the queue.
    question = {"query": "How long does a full charge take?", "cache": False}
    quick = client.post("/chat", json=question).json()["job_id"]
    state = client.get(f"/job-status/{quick}").json()
    assert state["status"] == "queued"
    assert state["position"] == 1

    # Start another worker: RQ's own `rq worker`, with the line that `python main.py` prints. A worker finds the queues
    # by their URL, and takes its settings from the environment or from .env.
    command = [RQ, "worker", "--url", service.valkey_url, "rag_queries"]
    with running(Fresh(command), tmp_path / "worker.log", **service.variables):
        # It answers while the first worker still waits for its model.
        answer = client.get(f"/result/{quick}", params={"wait": 30}).json()
        assert answer["status"] == "completed"
        assert client.get(f"/job-status/{slow}").json()["status"] == "started"

    # Leaving the block stopped the second worker. With Ctrl-C or SIGTERM a worker first finishes what it runs.
    client.delete(f"/jobs/{slow}")
