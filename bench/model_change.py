"""A change of embedding model under questions: `make bench-model-change`.

Documents are indexed by words alone. The worker is then started with another model, twice, while questions are asked
all the time: each must be answered, from the old index or the new one. The worker is killed at random moments of each
build, and one build fails because the provider refuses. Prints what was asked, what went wrong, and how long it took.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx

from bench.service import offline_environment, process, service, temporary_folder
from tests.support.openai_stub import KEY, OpenAIStub, openai_stub

BUILD_SECONDS = 600.0
ANSWER_SECONDS = 120
REFUSED_MODEL = "refused"
STUB_DIMENSIONS = 768
SENTENCES = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done. `models`: changed to one after the other; those of the stub begin with `stub`."""

    documents: int = 30
    pages: int = 4
    questions_per_second: float = 10.0
    kills: int = 3
    models: tuple[str, ...] = ("local", "stub-768")
    seed: int = 1


@dataclass
class Report:
    """What happened. `wrong` are questions that were told that nothing was found."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    models_used: set[str] = field(default_factory=set)
    build_seconds: dict[str, float] = field(default_factory=dict)
    refusal: str = ""
    slowest_seconds: float = 0.0


class Questions:
    """Asks about the documents at a steady pace until it is closed."""

    def __init__(self, api: httpx.Client, names: list[str], plan: Plan, report: Report) -> None:
        self._api = api
        self._names = names
        self._plan = plan
        self._report = report
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="questions")

    @contextmanager
    def being_asked(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._closed.set()
            self._thread.join()

    def _run(self) -> None:
        chance = random.Random(self._plan.seed)
        with ThreadPoolExecutor(64) as pool:
            while not self._closed.wait(1 / self._plan.questions_per_second):
                pool.submit(self._ask, chance.choice(self._names))

    def _ask(self, name: str) -> None:
        started = time.monotonic()
        question = f"Who is the keeper of the {name}?"
        try:
            job = self._api.post("/chat", json={"query": question, "cache": False}).raise_for_status().json()["job_id"]
            while (reply := self._api.get(f"/result/{job}", params={"wait": 30})).status_code == httpx.codes.ACCEPTED:
                if time.monotonic() - started > ANSWER_SECONDS:
                    break
            result = reply.raise_for_status().json()
        except httpx.HTTPError as error:
            result = {"status": "failed", "error": repr(error)}
        with self._lock:
            self._note(name, result, time.monotonic() - started)

    def _note(self, name: str, result: dict[str, Any], seconds: float) -> None:
        report = self._report
        report.asked += 1
        report.slowest_seconds = max(report.slowest_seconds, seconds)
        if result["status"] != "completed":
            report.failed.append(f"{name}: {result.get('error') or result['status']}")
        elif not result["answered"] or f"Keeper {name}" not in result["result"]:
            report.wrong.append(f"{name}: {result['result']}")
        else:
            report.models_used.add(result["used"].get("embedding_model") or "words alone")


class Worker:
    """The worker process, which is started again with other settings, and killed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / "worker.log"
        self._environment = environment
        self._running: Any = None
        self._process: Popen[bytes] | None = None

    def start(self, model: str) -> None:
        """Start the worker with a model, in place of the one that runs."""
        self.stop()
        command = [sys.executable, "main.py", "worker"]
        self._running = process(command, self._log, self._environment | {"EMBEDDING_MODEL": model})
        self._process = self._running.__enter__()

    def kill(self) -> None:
        """End the worker as kill -9 does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Stop the worker as an operator does."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
        self._running = None


def run(plan: Plan, folder: Path, *, say: Callable[[str], object] = lambda _line: None) -> Report:
    """Run the plan in a folder and return what happened."""
    report, names = Report(), [f"Tower{number}" for number in range(plan.documents)]
    with openai_stub() as stub:
        stub.behaviour.dimensions = STUB_DIMENSIONS
        environment = offline_environment(folder / "data", LOG_LEVEL="WARNING")
        provider = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "CHAT_MODEL": "stub-chat"}
        worker = Worker(folder, environment | provider)
        with service("api", folder / "api.log", environment) as api:
            try:
                worker.start("bm25")
                _upload(api, names, plan)
                say(f"{plan.documents} documents are indexed by words")
                with Questions(api, names, plan, report).being_asked():
                    _refused_build(api, worker, stub, report)
                    for number, model in enumerate(plan.models):
                        _change(api, worker, model, plan, report, random.Random(plan.seed + number))
                        say(f"{model} is searched after {report.build_seconds[model]:.1f} s, {report.kills} kills")
            finally:
                worker.stop()
    return report


def _change(api: httpx.Client, worker: Worker, model: str, plan: Plan, report: Report, chance: random.Random) -> None:
    """Start the worker with another model, kill it now and then, and wait until the model is searched."""
    began = time.monotonic()
    worker.start(model)
    added = f"Added{model.title().replace('-', '')}"
    _upload(api, [added], plan)  # it must be ready, and found, while the index is built
    for _ in range(plan.kills):
        done = _wait(api, lambda index: _is_built(index, model) or index.get("building", {}).get("done", 0) > 0)
        if _is_built(done, model):
            break
        time.sleep(chance.uniform(0.0, 1.0))
        worker.kill()
        report.kills += 1
        worker.start(model)
    _wait(api, lambda index: _is_built(index, model))
    report.build_seconds[model] = time.monotonic() - began


def _refused_build(api: httpx.Client, worker: Worker, stub: OpenAIStub, report: Report) -> None:
    """Have a build fail: the provider does not know the model."""
    stub.behaviour.refused_models.add(REFUSED_MODEL)
    worker.start(REFUSED_MODEL)
    index = _wait(api, lambda index: index.get("building", {}).get("status") == "failed")
    report.refusal = str(index["building"]["error"])


def _is_built(index: dict[str, Any], model: str) -> bool:
    return bool(index["searched"]["model"] == model and not index.get("building"))


def _wait(api: httpx.Client, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the index that /ready shows is as it should be; return it."""
    deadline = time.monotonic() + BUILD_SECONDS
    while True:
        shown = api.get("/ready").json().get("index") or {}
        index = {name: value for name, value in shown.items() if value is not None}
        if index and reached(index):
            return index
        if time.monotonic() > deadline:
            raise RuntimeError(f"the index stays {index}")
        time.sleep(0.05)


def _upload(api: httpx.Client, names: list[str], plan: Plan) -> None:
    """Upload a document for each name, and wait until all are ready."""
    uploads = []
    for name in names:
        text = _document(name, plan.pages).encode()
        sent = api.post("/uploads", files={"file": (f"{name}.txt", text)}).raise_for_status()
        uploads.append(sent.json()["upload_id"])
    deadline = time.monotonic() + BUILD_SECONDS
    for upload in uploads:
        while (state := api.get(f"/uploads/{upload}").json())["status"] != "ready":
            if state["status"] == "failed" or time.monotonic() > deadline:
                raise RuntimeError(f"an upload did not become ready: {state}")
            time.sleep(0.05)


def _document(name: str, pages: int) -> str:
    filler = "".join(f"Entry {number} of {name}: the lamp was cleaned and the oil was filled up. "
                     for number in range(SENTENCES))  # fmt: skip
    return f"The keeper of the {name} is Keeper {name}.\n\n" + "\f".join([filler] * pages)


def main() -> int:
    """Run the bench; return 1 if a question failed, or was told that nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=30)
    parser.add_argument("--rate", type=float, default=10.0, help="questions a second")
    parser.add_argument("--kills", type=int, default=3, help="kills of the worker in each build")
    options = parser.parse_args()
    plan = Plan(documents=options.documents, questions_per_second=options.rate, kills=options.kills)
    with temporary_folder() as folder:
        report = run(plan, folder, say=lambda line: print(line, flush=True))
    print(f"asked {report.asked}, failed {len(report.failed)}, wrong 'nothing found' {len(report.wrong)}")
    print(f"slowest answer {report.slowest_seconds:.1f} s, kills {report.kills}")
    print(f"searched by {', '.join(sorted(report.models_used))}")
    print(f"the refused build said: {report.refusal}")
    for line in [*report.failed[:5], *report.wrong[:5]]:
        print(line)
    return 1 if report.failed or report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
