"""A short run of `make chaos`, and how its figures are made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.chaos.parts import Moments
from bench.chaos.plan import PARTS, Plan, make_steps
from bench.chaos.recoveries import find_ended_calls, find_recoveries
from bench.chaos.run import run


def test_nothing_is_lost_when_everything_is_killed(tmp_path: Path) -> None:
    parts = frozenset({"worker", "both", "torn"})
    # With this seed no worker dies while Valkey is away, so that every answer could be kept.
    report = run(Plan(seed=5, questions=50, uploads=3, kills=3, seconds=5, workers=2, parts=parts), tmp_path)
    # One of 50 answers is more than the share that a long run allows, and a busy machine is slow to recover.
    assert report.broken(twice=0.04, more_seconds=20.0) == [], "\n".join(report.lines() + report.details())
    assert len(report.seen.jobs) == 50
    assert set(report.seen.states.values()) == {"ready"}
    assert report.happened == dict.fromkeys(parts, 1)
    assert report.calls.total >= 50
    assert report.recoveries


def test_a_seed_gives_the_same_plan() -> None:
    plan = Plan(seed=7, kills=40)
    steps = make_steps(plan)
    assert steps == make_steps(Plan(seed=7, kills=40))
    assert steps != make_steps(Plan(seed=8, kills=40))
    assert {step.part for step in steps} == {part for part, weight in PARTS.items() if weight}
    assert [step.at for step in steps] == sorted(step.at for step in steps)


def recovered(folder: Path, moments: Moments, *begins: tuple[int, float]) -> list[tuple[str, float | None]]:
    """Return the recoveries of a job that began in these processes at these times."""
    log = folder / "begins.log"
    log.write_text("".join(f"job {pid} {at}\n" for pid, at in begins))
    return [(recovery.kind, recovery.seconds) for recovery in find_recoveries(log, moments)]


def test_a_recovery_is_measured_from_the_last_moment_that_could_matter(tmp_path: Path) -> None:
    moments = Moments(killed=[(2.0, 11), (50.0, 12)], stopped=[(70.0, 90.0, 13, "worker-0")])
    assert recovered(tmp_path, moments, (11, 1.0), (12, 5.0)) == [("worker", 3.0)]
    assert recovered(tmp_path, moments, (11, 1.0), (12, 5.0), (13, 51.0), (14, 78.0)) == [
        ("worker", 3.0),
        ("worker", 1.0),
        ("stopped worker", 8.0),
    ]
    moments.down["valkey"] = [(1.5, 4.0)]
    assert recovered(tmp_path, moments, (11, 1.0), (12, 5.0)) == [("worker and Valkey", 1.0)]
    assert recovered(tmp_path, moments, (15, 20.0), (16, 21.0)) == [("nothing", None)]


def test_a_recovery_needs_a_worker(tmp_path: Path) -> None:
    moments = Moments(killed=[(2.0, 11), (6.0, 12)], stopped=[(1.0, 7.5, 13, "worker-2")])
    log = tmp_path / "begins.log"
    log.write_text("ready 11 0.5\nready 12 0.6\nready 13 0.7\nready 14 8.0\njob 11 1.0\njob 14 9.0\n")
    assert [recovery.seconds for recovery in find_recoveries(log, moments)] == [1.5]


@pytest.mark.parametrize(("stopped", "twice"), [(False, 1), (True, 0)])
def test_a_call_is_made_twice_only_if_somebody_heard_the_first(tmp_path: Path, *, stopped: bool, twice: int) -> None:
    log = tmp_path / "calls.log"
    calls = [("chat", "7", "worker-0", 3.0), ("chat", "8", "worker-1", 3.5), ("chat", "7", "worker-1", 9.0)]
    lines = [{"kind": kind, "keys": [key], "caller": caller, "at": at} for kind, key, caller, at in calls]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    moments = Moments(stopped=[(2.0, 20.0, 11, "worker-0")] if stopped else [], down={"worker-0": [(4.0, 5.0)]})
    found = find_ended_calls(log, moments)
    assert (found.total, len(found.twice), found.unheard) == (3, twice, 1 - twice)
    assert all("worker-0 had made the call and died 1.000 s after its end" in call for call in found.twice)
