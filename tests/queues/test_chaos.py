"""A short run of `make chaos`."""

from __future__ import annotations

from bench.chaos import Plan, run


def test_nothing_is_lost_when_everything_is_killed() -> None:
    report = run(Plan(seed=4, jobs=120, seconds=8, workers=2, quick=True))
    assert report.acknowledged == 120
    assert report.terminal == 120
    assert report.finished >= 110  # what fails at once is not recovered either
    assert report.recoveries
    assert report.lost == []
    assert report.conflicting == []
    assert report.slowest_recovery <= 15
    assert sum(report.kills.values()) >= 3
