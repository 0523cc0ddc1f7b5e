"""What every measurement of real questions stands on: an indexed corpus, a Valkey, the stub provider, and questions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from bench.machine import ROOT, Program, cpu_seconds_of, program, wait_for
from bench.questions import corpus
from bench.questions.provider import EMBED_MS, MODEL_SECONDS, Provider, provider
from client.valkey.embedded import EmbeddedValkey
from schemas import Query
from settings import Settings, load_settings

QUEUE = "rag_queries"
# 32 stock workers take 90 s of CPU to import what they need.
START_SECONDS = 240.0
KEY = "not-needed"


@dataclass(frozen=True, slots=True)
class Setup:
    """The services of a measurement, all on this machine."""

    folder: Path
    url: str
    valkey: Redis
    provider: Provider
    questions: Iterator[str]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of a program of the service, whatever `.env` says."""
        return os.environ | {
            "VALKEY_URL": self.url,
            "RQ_REDIS_URL": self.url,
            "DATA_DIR": str(self.folder / "data"),
            "QDRANT_URL": "",
            "DATABASE_URL": "",
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_API_KEY": KEY,
            "CHAT_MODEL": "long",
            "CHAT_MODELS": "short,zero",
            "PYTHONWARNINGS": "ignore",
            **variables,
        }

    def settings(self) -> Settings:
        """Return the settings that the programs read from the environment, for the client of the queue."""
        return load_settings(valkey_url=self.url, data_dir=self.folder / "data")

    def payload(self, model: str) -> dict[str, Any]:
        """Return the next question as a job's argument. No two are equal, so no answer comes from the cache."""
        return Query(query=next(self.questions), model=model).model_dump(mode="json")

    def valkey_cpu_seconds(self) -> float:
        """Return the CPU time of Valkey since its start."""
        return cpu_seconds_of(int(self.valkey.info("server")["process_id"]))

    @contextmanager
    def worker(self, in_flight: int, command: list[str] | None = None, *, count: int = 1) -> Iterator[Program]:
        """Run `main.py worker`, or other workers, on an empty Valkey; wait until `count` of them take questions."""
        self.valkey.flushall()
        command = command or [sys.executable, "main.py", "worker"]
        log = self.folder / "worker.log"
        environment = self.environment(WORKER_CONCURRENCY=str(in_flight))
        with program(command, environment, log=log) as (worker,):
            wait_for(lambda: self.valkey.scard(f"rq:workers:{QUEUE}") >= count or worker.ended, seconds=START_SECONDS)
            if worker.ended:
                raise SystemExit(f"the worker did not start:\n{log.read_text()[-2_000:]}")
            yield worker


@contextmanager
def open_setup(folder: Path) -> Iterator[Setup]:
    """Make the corpus, index it through `index.py`, and start what the measurements need."""
    texts = corpus.make_corpus()
    corpus.write_pdfs(texts, folder / "corpus")
    server = EmbeddedValkey(folder / "valkey")
    server.start()
    try:
        with provider() as stub, Redis.from_url(server.url) as valkey:
            setup = Setup(folder, server.url, valkey, stub, corpus.questions(texts))
            index = [sys.executable, "index.py", str(folder / "corpus")]
            done = subprocess.run(
                index, cwd=ROOT, env=setup.environment(), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            print(f"corpus: {done.stdout.decode().strip()}", flush=True)
            yield setup
    finally:
        server.stop()


def ideal_seconds(model: str) -> float:
    """Return what the provider alone takes for a question."""
    return EMBED_MS / 1_000 + MODEL_SECONDS[model]
