"""The backlog of the last hour, from what was accepted and what has ended."""

from __future__ import annotations

from client.rq.stats import _backlogs


def test_the_backlog_of_each_minute_follows_from_that_of_now() -> None:
    minutes = [(4, 0), (2, 3), (0, 2), (1, 0)]
    assert _backlogs(minutes, now=2) == [4, 3, 1, 2]


def test_a_backlog_is_never_less_than_nothing() -> None:
    assert _backlogs([(0, 0), (5, 0), (0, 0)], now=1) == [0, 1, 1]
