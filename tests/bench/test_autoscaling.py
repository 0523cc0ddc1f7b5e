"""The simulation of autoscaling: the chart's values hold the wait, and worse values do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from bench.autoscaling import LONGEST_WAIT_SECONDS, VALUES, Policy, simulate

POLICY = Policy.of(yaml.safe_load(VALUES.read_text()), "questions")


def test_the_charts_values_hold_the_wait_while_the_load_grows_tenfold() -> None:
    outcome = simulate(POLICY, 5.0, 4.0, seed=1)
    assert max(outcome.waits) <= LONGEST_WAIT_SECONDS
    assert max(outcome.workers) > 2 * min(outcome.workers)
    assert outcome.workers[-1] < max(outcome.workers) / 2  # they are taken away again


@pytest.mark.parametrize("worse", [{"max": 4}, {"grow_pods": 1, "grow_percent": 10, "grow_seconds": 60.0}])
def test_values_that_add_too_few_workers_do_not_hold_it(worse: dict[str, float]) -> None:
    assert max(simulate(replace(POLICY, **worse), 10.0, 4.0, seed=1).waits) > LONGEST_WAIT_SECONDS  # type: ignore[arg-type]


def test_the_largest_of_all_metrics_counts_within_a_tolerance() -> None:
    assert POLICY.desired(waiting=0, running=0, workers=5) == POLICY.min
    assert POLICY.desired(waiting=10 * POLICY.waiting, running=0, workers=5) == 10
    assert POLICY.desired(waiting=0, running=7 * POLICY.running, workers=5) == 7
    assert POLICY.desired(waiting=0, running=5 * POLICY.running + 1, workers=5) == 5
    assert POLICY.desired(waiting=10**6, running=0, workers=5) == POLICY.max
