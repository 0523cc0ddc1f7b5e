"""`make chaos`, with its flags: `make chaos CHAOS_FLAGS="--seed 7 --parts worker,valkey --seconds 60"`. Needs Linux."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench.chaos import faults
from bench.chaos.plan import NEED_LIBRARY, PARTS, Plan, make_steps
from bench.chaos.run import run, run_tree


def main() -> int:
    """Run with the seed of the command line, and print what was found. Fails when a promise was broken."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the processes of the run, too
    chosen = frozenset(options.parts.split(",")) if options.parts else frozenset(PARTS)
    if unknown := chosen - set(PARTS):
        raise SystemExit(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not faults.AVAILABLE and chosen & NEED_LIBRARY:
        print(f"without a C compiler on Linux: not {', '.join(sorted(chosen & NEED_LIBRARY))}")
        chosen -= NEED_LIBRARY
    plan = Plan(
        seed=options.seed,
        questions=options.questions,
        uploads=options.uploads,
        kills=options.kills,
        seconds=options.seconds,
        workers=options.workers,
        trees=options.trees,
        parts=chosen,
    )
    print(
        f"seed {plan.seed}: {plan.questions} questions, {plan.uploads} uploads and {plan.kills} kills in "
        f"{plan.seconds:.0f} s; load average {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    if options.show_plan:
        for step in make_steps(plan):
            print(
                f"  {step.at:6.1f} s  {step.part:<7} {step.seconds:5.1f} s  worker {step.worker}  {step.amount or ''}"
            )
        return 0
    folder = Path(options.folder or tempfile.mkdtemp(prefix="chaos-"))
    broken = _run(plan, folder)
    print(f"logs and data: {folder}")
    return 1 if broken else 0


def _run(plan: Plan, folder: Path) -> list[str]:
    """Run both phases, print their reports, and return the broken promises."""
    broken = []
    phases = [("separate processes", run, plan)] if plan.parts - {"tree"} else []
    if "tree" in plan.parts:
        phases.append(("python main.py", run_tree, plan.of_tree()))
    for name, phase, its_plan in phases:
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True)
        began = time.monotonic()
        report = phase(its_plan, place)
        print(f"\n{name}, {time.monotonic() - began:.0f} s; load average {os.getloadavg()[0]:.1f}")
        print("\n".join(f"  {line}" for line in report.lines()))
        if found := report.broken():
            print("\n".join(f"  BROKEN: {sentence}" for sentence in found))
            print("\n".join(f"    {line}" for line in report.details()), flush=True)
        broken += found
    return broken


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10_000), help="the same seed kills the same things"
    )
    parser.add_argument("--questions", type=int, default=Plan.questions)
    parser.add_argument("--uploads", type=int, default=Plan.uploads)
    parser.add_argument("--kills", type=int, default=Plan.kills)
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="how long questions come in")
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--trees", type=int, default=Plan.trees, help="kills of all processes of `python main.py`")
    parser.add_argument("--parts", help=f"what happens, separated by commas: {', '.join(PARTS)}; all by default")
    parser.add_argument("--folder", help="an empty folder for data and logs; a new one by default")
    parser.add_argument("--show-plan", action="store_true", help="print what would happen, and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
