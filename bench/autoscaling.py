"""Simulates autoscaling of workers by queue length, with the values of deploy/helm: `python -m bench.autoscaling`.

The load grows tenfold within a minute, stays, and falls back. KEDA reads `rq:queue:*` and the running jobs every
`pollSeconds`; the HPA acts on them every SYNC_SECONDS, within its policies; a new worker takes START_SECONDS until it
takes jobs. Printed are the waits of the questions, from their arrival to a free slot, and how many workers ran.
Exits with 1 if a question waits for more than LONGEST_WAIT_SECONDS.

The HPA's rules: desired = ceil(metric / target) for an AverageValue, the largest of all metrics, nothing within a
tolerance of 10 %; of several policies for growth the one that allows most; a fall takes the highest desired number of
the stabilization window. Source: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

VALUES = Path(__file__).resolve().parent.parent / "deploy" / "helm" / "values.yaml"
LONGEST_WAIT_SECONDS = 30.0
SYNC_SECONDS = 15.0
START_SECONDS = 20.0  # a node with room that has the image; the worker itself takes 5 s
TOLERANCE = 0.1
STEP_SECONDS = 0.1
# The load: seconds before it grows, of growth, at ten times, and after it.
BEFORE, GROWTH, HIGH, AFTER = 300.0, 60.0, 600.0, 900.0


@dataclass(frozen=True)
class Policy:
    """The autoscaling of one kind of worker. `grow` and `shrink`: the HPA's policies, percent and pods for a period."""

    min: int
    max: int
    waiting: int
    running: int
    concurrency: int
    poll_seconds: float
    window_seconds: float
    grow_percent: int
    grow_pods: int
    grow_seconds: float
    shrink_percent: int
    shrink_seconds: float

    @classmethod
    def of(cls, values: dict[str, Any], worker: str) -> Policy:
        """Read the policy of a kind of worker from the chart's values."""
        own, shared = values["workers"][worker], values["autoscaling"]
        return cls(
            **{name: own["autoscaling"][name] for name in ("min", "max", "waiting", "running")},
            concurrency=own["concurrency"],
            poll_seconds=shared["pollSeconds"],
            window_seconds=shared["cooldownSeconds"],
            grow_percent=shared["grow"]["percent"],
            grow_pods=shared["grow"]["pods"],
            grow_seconds=shared["grow"]["seconds"],
            shrink_percent=shared["shrink"]["percent"],
            shrink_seconds=shared["shrink"]["seconds"],
        )

    def desired(self, waiting: int, running: int, workers: int) -> int:
        """Return how many workers the metrics ask for."""
        ratios = [waiting / self.waiting, running / self.running]
        wanted = [workers if abs(r / workers - 1) <= TOLERANCE else math.ceil(r) for r in ratios]
        return min(self.max, max(self.min, *wanted))


@dataclass
class Outcome:
    """What happened: the wait of each question in seconds, and the workers at each second."""

    waits: list[float]
    workers: list[int]

    def wait(self, share: float) -> float:
        return sorted(self.waits)[min(len(self.waits) - 1, int(share * len(self.waits)))]


class Autoscaler:
    """KEDA and the HPA: the number of workers that were asked for, at each moment."""

    def __init__(self, policy: Policy) -> None:
        self.wanted = policy.min
        self._policy = policy
        self._metrics = (0, 0)
        self._polled_at = self._synced_at = -math.inf
        self._history: deque[tuple[float, int]] = deque()  # when, and what the metrics asked for
        self._changes: deque[tuple[float, int]] = deque()  # when, and by how many the number changed

    def observe(self, now: float, waiting: int, running: int) -> None:
        """Poll and act where each is due."""
        if now - self._polled_at >= self._policy.poll_seconds:
            self._polled_at, self._metrics = now, (waiting, running)
        if now - self._synced_at >= SYNC_SECONDS:
            self._synced_at = now
            self._act(now)

    def _act(self, now: float) -> None:
        policy, desired = self._policy, self._policy.desired(*self._metrics, workers=self.wanted)
        self._history.append((now, desired))
        while self._history[0][0] < now - policy.window_seconds:
            self._history.popleft()
        before = self.wanted
        if desired > self.wanted:
            base = self.wanted - self._changed(now, policy.grow_seconds, sign=1)
            most = base + max(policy.grow_pods, math.ceil(base * policy.grow_percent / 100))
            self.wanted = min(desired, max(self.wanted, most))
        elif (highest := max(number for _, number in self._history)) < self.wanted:
            base = self.wanted - self._changed(now, policy.shrink_seconds, sign=-1)
            least = math.ceil(base * (1 - policy.shrink_percent / 100))
            self.wanted = max(highest, min(self.wanted, least), policy.min)
        if self.wanted != before:
            self._changes.append((now, self.wanted - before))

    def _changed(self, now: float, seconds: float, *, sign: int) -> int:
        return sum(change for at, change in self._changes if at > now - seconds and change * sign > 0)


def rate(now: float, base: float) -> float:
    """Return the questions a second at a moment."""
    if now < BEFORE or now >= BEFORE + GROWTH + HIGH:
        return base
    return base * (1 + 9 * min(1.0, (now - BEFORE) / GROWTH))


def simulate(policy: Policy, base: float, answer_seconds: float, *, seed: int) -> Outcome:
    """Simulate the whole load. Answers take `answer_seconds` on average, log-normal with a sigma of 0.5."""
    draw = random.Random(seed)
    scaler, outcome = Autoscaler(policy), Outcome([], [])
    waiting: deque[float] = deque()
    running: list[float] = []  # a heap of the moments at which answers end
    workers, starting = policy.min, deque[float]()
    now = 0.0
    while now < BEFORE + GROWTH + HIGH + AFTER:
        now += STEP_SECONDS
        waiting.extend([now] * _poisson(draw, rate(now, base) * STEP_SECONDS))
        while running and running[0] <= now:
            heapq.heappop(running)
        scaler.observe(now, len(waiting), len(running))
        while len(starting) + workers < scaler.wanted:
            starting.append(now + START_SECONDS)
        while starting and starting[0] <= now:
            starting.popleft()
            workers += 1
        workers = min(workers, scaler.wanted)  # one that ends takes no more, and finishes what it runs
        while waiting and len(running) < workers * policy.concurrency:
            outcome.waits.append(now - waiting.popleft())
            heapq.heappush(running, now + draw.lognormvariate(math.log(answer_seconds) - 0.125, 0.5))
        if math.floor(now) != math.floor(now - STEP_SECONDS):
            outcome.workers.append(workers)
    outcome.waits.extend(now - since for since in waiting)
    return outcome


def _poisson(draw: random.Random, mean: float) -> int:
    count, limit, product = 0, math.exp(-mean), draw.random()
    while product > limit:
        count, product = count + 1, product * draw.random()
    return count


def main() -> int:
    """Simulate with several seeds and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscaling", description="Simulate autoscaling.")
    parser.add_argument("--rate", type=float, default=10.0, help="questions a second before the load grows")
    parser.add_argument("--answer-seconds", type=float, default=4.0, help="how long an answer takes on average")
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    policy = Policy.of(yaml.safe_load(VALUES.read_text()), "questions")
    print(
        f"{chosen.rate:g} questions/s grow tenfold in {GROWTH:.0f} s; answers of {chosen.answer_seconds:g} s; {policy}"
    )
    longest = 0.0
    for seed in range(chosen.seeds):
        outcome = simulate(policy, chosen.rate, chosen.answer_seconds, seed=seed)
        longest = max(longest, *outcome.waits)
        print(
            f"  seed {seed}: {len(outcome.waits):,} questions waited p50 {outcome.wait(0.5):.1f} s, p99 "
            f"{outcome.wait(0.99):.1f} s, longest {max(outcome.waits):.1f} s; workers {min(outcome.workers)} to "
            f"{max(outcome.workers)}, {outcome.workers[-1]} at the end, {sum(outcome.workers) / 3600:.1f} worker hours"
        )
    held = longest <= LONGEST_WAIT_SECONDS
    print(f"longest wait {longest:.1f} s: {'within' if held else 'above'} {LONGEST_WAIT_SECONDS:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
