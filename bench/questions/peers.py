"""The same question under stock RQ workers, under celery, and as the function that a user would write first."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench import peers_venv
from bench.machine import ROOT, RQ, program
from bench.questions.closed_loop import HEAD, CountedLoop, measure
from bench.questions.setup import QUEUE, Setup

AT_ONCE = 32
# More than celery can answer while it is measured.
ENQUEUED = 4_000
MODELS = ("long", "short")
# Each with a copy of the data: one process at a time may open an embedded store, so they would wait for each other.
STOCK = (
    f"for n in $(seq {AT_ONCE}); do DATA_DIR=%s/$n {RQ} worker -c queues.preload --quiet --url %s {QUEUE} & done; wait"
)


def run(setup: Setup, seconds: float) -> None:
    """Print a row for each, and for `main.py worker` beside them."""
    peers_venv.make()
    print(f"\nthe same questions elsewhere, {AT_ONCE} at once\n{HEAD}", flush=True)
    copies = _copy_data(setup.folder)
    for model in MODELS:
        print("  main.py worker")
        with setup.worker(AT_ONCE) as worker:
            print(measure(setup, worker, model, AT_ONCE, seconds), flush=True)
        print(f"  {AT_ONCE} stock rq workers, preloaded, each with an embedded store of its own, opened for each job")
        with setup.worker(AT_ONCE, ["sh", "-c", STOCK % (copies, setup.url)], count=AT_ONCE) as worker:
            print(measure(setup, worker, model, AT_ONCE, seconds), flush=True)
        print(f"  celery, {AT_ONCE} threads that call process_query: no events, no cache, no position in a queue")
        _celery(setup, model, seconds)
        print(f"  LangChain + Qdrant + OpenAI, {AT_ONCE} threads: no queue, events, hybrid search, reranking, checks")
        command = [sys.executable, "-m", "bench.questions.straightforward", model, str(AT_ONCE)]
        _counted(setup, command, model, seconds, setup.environment())


def _copy_data(folder: Path) -> Path:
    """Copy the data for each stock worker, and return the folder of the copies."""
    copies = folder / "copies"
    copies.mkdir()
    cp = shutil.which("cp") or "cp"
    for n in range(1, AT_ONCE + 1):
        # The engine's files are mostly holes: 24 MB on disk of 271.
        subprocess.run([cp, "-r", "--sparse=always", str(folder / "data"), str(copies / str(n))], check=True)
    return copies


def _celery(setup: Setup, model: str, seconds: float) -> None:
    """Measure celery, which takes its own packages from .venv-bench and the project's from this environment."""
    packages = sysconfig.get_path("purelib")
    environment = setup.environment(PYTHONPATH=f"{ROOT}:{packages}")
    python = peers_venv.folder("question_app") / "bin" / "python"
    setup.valkey.flushall()
    payloads = "".join(json.dumps(setup.payload(model)) + "\n" for _ in range(ENQUEUED))
    enqueue = [str(python), "-m", "bench.peers.question_app"]
    subprocess.run(enqueue, cwd=ROOT, env=environment, input=payloads.encode(), check=True)
    command = [str(python), "-m", "celery", "-A", "bench.peers.question_app", "worker"]
    _counted(setup, [*command, "-P", "threads", "-c", str(AT_ONCE)], model, seconds, environment, empty=False)


def _counted(
    setup: Setup, command: list[str], model: str, seconds: float, environment: dict[str, str], *, empty: bool = True
) -> None:
    if empty:
        setup.valkey.flushall()
    with program(command, environment, log=setup.folder / "peer.log") as (worker,):
        print(asyncio.run(CountedLoop(setup, worker, model, AT_ONCE).run(seconds)), flush=True)
        if worker.ended:
            print((setup.folder / "peer.log").read_text()[-1_000:])
