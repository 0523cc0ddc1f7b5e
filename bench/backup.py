"""A backup and a restore of many chunks while questions are asked and documents sent: `make bench-backup`.

All engines are embedded, and the model is a stub. Prints how long the backup and the restore took, what the questions
felt of it, and what an audit of the restored service finds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.service import ask, offline_environment, service, temporary_folder, wait_for_workers
from settings import ROOT
from tests.support.openai_stub import KEY, Behaviour, openai_stub

WORDS = [f"word{number}" for number in range(3_000)]
# About as many words as a chunk takes: each is a word and a number.
CHUNK_WORDS = 50
DOCUMENT_CHUNKS = 200
WAIT_SECONDS = 1_800.0


@dataclass
class Load:
    """What questions felt. `seconds`: how long each took, with the moment at which it was asked."""

    seconds: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0
    uploads: int = 0

    def between(self, start: float, end: float) -> list[float]:
        """Return the times of the questions that were asked then, in order."""
        return sorted(taken for asked_at, taken in self.seconds if start <= asked_at < end)


def main() -> None:
    """Run the benchmark and print its figures."""
    options = _parser().parse_args()
    with temporary_folder() as folder, openai_stub() as stub:
        stub.behaviour.dimensions = options.dimensions
        first, second = folder / "first", folder / "second"
        use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
        target = folder / f"backup{options.suffix}"
        with service("all", folder / "first.log", offline_environment(first, **use)) as api:
            wait_for_workers(api, 1)
            _index(api, options.chunks)
            with _load(api, options.questions_per_second) as load:
                time.sleep(options.quiet_seconds)
                begun = time.monotonic()
                said = _command(first, use, "backup", str(target))
                ended = time.monotonic()
                time.sleep(1)
        size = sum(path.stat().st_size for path in [target, *target.rglob("*")] if path.is_file())
        print(f"backup: {said.splitlines()[-1].partition(': ')[2]}; {size / 1024**2:.1f} MiB on disk")
        for name, times in (("before", load.between(0, begun)), ("during", load.between(begun, ended))):
            print(f"questions {name} the backup: {_described(times)}")
        print(f"failed questions: {load.failed}; documents sent meanwhile: {load.uploads}", flush=True)
        _restore(folder, second, target, use, stub.behaviour)


def _restore(folder: Path, second: Path, target: Path, use: dict[str, str], behaviour: Behaviour) -> None:
    started = time.monotonic()
    print(_command(second, use, "restore", str(target)).splitlines()[-1])
    print(f"restore with the start of Python: {time.monotonic() - started:.1f} s")
    texts = sum(len(call["input"]) for call in behaviour.calls if "input" in call)
    with service("all", folder / "second.log", offline_environment(second, **use)) as api:
        wait_for_workers(api, 1)
        _settle(api)
        print(f"audit of the restored service: {_command(second, use, 'audit', '--repair').splitlines()[-1]}")
        again = sum(len(call["input"]) for call in behaviour.calls if "input" in call) - texts
        print(f"texts embedded after the restore: {again}")
        ask(api, f"What of {WORDS[0]}?")


def _index(api: httpx.Client, chunks: int) -> None:
    draw = random.Random(1)
    for number in range(0, chunks, DOCUMENT_CHUNKS):
        count = min(DOCUMENT_CHUNKS, chunks - number)
        paragraphs = (" ".join(draw.choices(WORDS, k=CHUNK_WORDS)) + "." for _ in range(count))
        text = "\n\n".join(paragraphs).encode()
        api.post("/uploads", files={"file": (f"{number}.txt", text)}).raise_for_status()
    _settle(api)
    uploads = api.get("/uploads", params={"limit": 100}).json()["uploads"]
    if failed := [upload["error"] for upload in uploads if upload["status"] != "ready"]:
        raise RuntimeError(f"{len(failed)} documents were not indexed: {failed[0]}")
    print(f"indexed: {sum(upload['chunks'] for upload in uploads):,} chunks in {len(uploads)} documents", flush=True)


def _settle(api: httpx.Client) -> None:
    """Wait until no upload waits to be indexed."""
    deadline = time.monotonic() + WAIT_SECONDS
    while any(queue["waiting"] for queue in api.get("/ready").json()["queues"]) or _unfinished(api):
        if time.monotonic() > deadline:
            raise RuntimeError("the documents were not indexed in time")
        time.sleep(0.2)


def _unfinished(api: httpx.Client) -> bool:
    statuses = {each["status"] for each in api.get("/uploads", params={"limit": 100}).json()["uploads"]}
    return bool(statuses & {"queued", "processing"})


@contextmanager
def _load(api: httpx.Client, questions_per_second: float) -> Iterator[Load]:
    """Ask at this rate, and send a small document each second, until the end of the block."""
    load, stop = Load(), threading.Event()

    def question() -> None:
        started = time.monotonic()
        try:
            ask(api, f"What of {random.choice(WORDS)}?")
        except (httpx.HTTPError, RuntimeError):
            load.failed += 1
        else:
            load.seconds.append((started, time.monotonic() - started))

    def ask_all() -> None:
        while not stop.wait(1 / questions_per_second):
            threading.Thread(target=question).start()

    def send() -> None:
        while not stop.wait(1.0):
            api.post("/uploads", files={"file": (f"{uuid.uuid4()}.txt", f"Note {uuid.uuid4()}.".encode())})
            load.uploads += 1

    threads = [threading.Thread(target=ask_all), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _command(data_dir: Path, use: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=ROOT,
        env=offline_environment(data_dir, **use),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def _described(times: list[float]) -> str:
    if not times:
        return "none"
    late = times[int(0.95 * (len(times) - 1))]
    return f"{len(times)}, median {statistics.median(times):.2f} s, 95 % {late:.2f} s, slowest {times[-1]:.2f} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Back up and restore a service under load.")
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=384, help="the length of the stub's vectors")
    parser.add_argument("--questions-per-second", type=float, default=5.0)
    parser.add_argument(
        "--quiet-seconds", type=float, default=10.0, help="questions before the backup, to compare with"
    )
    parser.add_argument("--suffix", default=".tar.zst", help="of the backup; empty for a folder")
    return parser


if __name__ == "__main__":
    main()
