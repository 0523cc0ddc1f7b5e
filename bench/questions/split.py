"""Where the CPU time of an answer goes, part by part: from a worker that is looked at while it answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench.questions.closed_loop import measure
from bench.questions.profiled_worker import WRITE_SECONDS
from bench.questions.provider import TOKENS
from bench.questions.setup import QUEUE, Setup

AT_ONCE = 16
WARM_SECONDS = 2.0
UNSEEN = "not seen"


def run(setup: Setup, seconds: float) -> None:
    """Print the parts of a long and of a short answer."""
    answers = {model: _split(setup, model, seconds) for model in ("long", "short")}
    long, short = answers["long"], answers["short"]
    print(f"\nCPU of an answer by part, ms; {AT_ONCE} at once\n  {'part':<28}{'long':>8}{'short':>8}")
    per_token = (long["model"] - short["model"]) / (TOKENS["long"] - TOKENS["short"])
    for part in sorted(long, key=lambda name: -long[name]):
        if part == "whole":
            continue
        if part == "model":
            fixed = max(0.0, short["model"] - per_token * TOKENS["short"])
            print(f"  {'model, fixed':<28}{fixed:8.2f}{fixed:8.2f}")
            name = f"model, {per_token * 1_000:.0f} µs a token"
            print(f"  {name:<28}{per_token * TOKENS['long']:8.2f}{per_token * TOKENS['short']:8.2f}")
        else:
            print(f"  {part:<28}{long[part]:8.2f}{short.get(part, 0.0):8.2f}")
    print(f"  {'whole':<28}{long['whole']:8.2f}{short['whole']:8.2f}", flush=True)


def _split(setup: Setup, model: str, seconds: float) -> dict[str, float]:
    """Return the CPU ms of an answer by part, with the whole, which the looking thread is no part of."""
    file = setup.folder / "profile.json"
    file.unlink(missing_ok=True)
    with setup.worker(AT_ONCE, [sys.executable, "-m", "bench.questions.profiled_worker", str(file)]) as worker:
        measure(setup, worker, model, AT_ONCE, WARM_SECONDS)  # imports and connections
        before, started = _read(file), _answers(setup)
        measure(setup, worker, model, AT_ONCE, seconds)
        after, ended = _read(file), _answers(setup)
    used = {part: after[part] - before.get(part, 0.0) for part in after}
    used[UNSEEN] = used["whole"] - sum(seconds for part, seconds in used.items() if part != "whole")
    return {part: 1_000 * seconds / max(1, ended - started) for part, seconds in used.items()} | _zero(used)


def _zero(used: Mapping[str, float]) -> dict[str, float]:
    return {} if "model" in used else {"model": 0.0}


def _read(file: Path) -> dict[str, float]:
    """Return the CPU seconds by part, with the whole, written after this call."""
    asked = time.time()
    while not file.exists() or file.stat().st_mtime < asked:
        time.sleep(WRITE_SECONDS / 10)
    report = json.loads(file.read_text())
    return {"whole": report["whole"], **report["parts"]}


def _answers(setup: Setup) -> int:
    return int(setup.valkey.zcard(f"rq:finished:{QUEUE}"))
