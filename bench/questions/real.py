"""The real question under the real worker, at several numbers of questions at once."""

from __future__ import annotations

from bench.questions.closed_loop import HEAD, Row, measure
from bench.questions.setup import Setup


def run(setup: Setup, models: list[str], in_flight: list[int], seconds: float) -> list[Row]:
    """Measure each model with each number at once, every time with a new worker process, and print a row for each."""
    print("\nreal questions under `main.py worker`, one process\n" + HEAD, flush=True)
    rows = []
    for model in models:
        for at_once in in_flight:
            with setup.worker(at_once) as worker:
                rows.append(measure(setup, worker, model, at_once, seconds))
                print(rows[-1], flush=True)
    return rows
