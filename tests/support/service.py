"""A running `python main.py`, as a user starts it: the API, one worker, and the Valkey and Qdrant in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from tests.support.openai_stub import KEY, Behaviour, openai_stub
from tests.support.processes import PYTHON, ROOT, Running, descendants, free_port, running, wait_until

HANDBOOK = ROOT / "samples" / "handbook.pdf"


@dataclass(frozen=True)
class Service:
    """A running service. `url` ends with a slash; `client` calls the API.

    A program started with `variables` and `valkey_url` works on the same queues and documents. `model` is the model
    provider, which is asked for nothing where the service has no model.
    """

    url: str
    client: httpx.Client
    valkey_url: str
    variables: dict[str, str]
    process: Running
    model: Behaviour

    def upload(self, name: str, content: bytes) -> str:
        """Upload a file and wait until it is read; return its id."""
        sent = self.client.post("/uploads", files={"file": (name, content)}).raise_for_status().json()
        if not sent["duplicate"]:
            self.client.get(f"/result/{sent['job_id']}", params={"wait": 30}).raise_for_status()
        return str(sent["upload_id"])

    def is_ready(self) -> bool:
        """Return True if the API answers and a worker listens."""
        return _is_ready(self.client)

    def kill(self, part: str) -> None:
        """Kill the api, the worker or valkey, as kill -9 does. `python main.py` starts it again."""
        mark = b"valkey-server" if part == "valkey" else b"\0" + part.encode() + b"\0"
        for pid in descendants(self.process.process.pid):
            if mark in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                return
        raise AssertionError(f"no {part} runs")


@contextmanager
def running_service(folder: Path, **variables: str) -> Iterator[Service]:
    """Run a service with these settings, which needs no key and has no model unless they name one."""
    port = free_port()
    variables = {"DATA_DIR": str(folder / "data"), "PORT": str(port)} | variables
    with (
        running([PYTHON, "main.py"], folder / "main.log", **variables) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=40) as client,
    ):
        wait_until(lambda: _is_ready(client), seconds=90, what=lambda: process.output)
        valkey_url = (folder / "data" / "valkey" / "url").read_text()
        yield Service(f"http://127.0.0.1:{port}/", client, valkey_url, variables, process, Behaviour())


@contextmanager
def service_with_model(folder: Path, **variables: str) -> Iterator[Service]:
    """Run a service with a model provider of our own instead of OpenAI."""
    with (
        openai_stub() as provider,
        running_service(folder, OPENAI_BASE_URL=provider.url, OPENAI_API_KEY=KEY, **variables) as service,
    ):
        yield replace(service, model=provider.behaviour)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False
