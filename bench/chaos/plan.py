"""The plan of a run: what happens when. The same seed gives the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

# What can happen, and how often compared with the rest.
PARTS = {
    "worker": 12,  # SIGKILL of a worker
    "api": 3,  # of the API
    "valkey": 3,  # of Valkey
    "both": 3,  # of a worker and Valkey at the same moment
    "torn": 2,  # of Valkey; its file ends in the middle of a command
    "qdrant": 2,  # of Qdrant
    "hang": 1,  # Qdrant is stopped and woken
    "stop": 3,  # a worker is stopped and woken
    "disk": 2,  # each sync of Valkey's file takes as many ms as `amount` says
    "full": 1,  # Valkey's disk is full
    "clock": 2,  # Valkey's clock steps by `amount` seconds, and back at the end
    "tree": 0,  # SIGKILL of all processes of `python main.py`, in a phase of its own
}
KILLS = {"worker", "api", "valkey", "both", "torn", "qdrant", "tree"}
NEED_LIBRARY = {"disk", "full", "clock"}
# Seconds of each: after a kill, until the next start.
SECONDS = {"stop": (10.0, 40.0), "hang": (2.0, 12.0), "disk": (5.0, 15.0), "full": (1.0, 4.0), "clock": (5.0, 20.0)}
SECONDS_OF_A_KILL = (0.1, 2.0)
CLOCK_STEPS = (-1_800, -5, 60)
SYNC_MS = (20, 300)
FIRST_STEP_SECONDS = 1.0
SECONDS_OF_A_TREE = 15.0


@dataclass(frozen=True)
class Plan:
    """The load of a run and what happens meanwhile. `trees`: kills of all of `python main.py`."""

    seed: int
    questions: int = 2_000
    uploads: int = 60
    kills: int = 80
    seconds: float = 300.0
    workers: int = 3
    at_once: int = 8
    parts: frozenset[str] = frozenset(PARTS)
    trees: int = 5

    def of_tree(self) -> Plan:
        """Return the load of the phase of `python main.py`: its share of the whole by its kills."""
        share = max(1, self.kills // self.trees)
        return replace(
            self,
            questions=self.questions // share,
            uploads=max(2, self.uploads // share),
            seconds=self.trees * SECONDS_OF_A_TREE,
            workers=1,
            parts=frozenset({"tree"}),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens `at` seconds after the start, for `seconds`, to the worker of this number if to one."""

    at: float
    part: str
    seconds: float
    worker: int
    amount: int = 0


def make_steps(plan: Plan) -> list[Step]:
    """Return the steps in the order of their times: each part at least once, and as many kills as the plan says."""
    draw = random.Random(plan.seed)
    chosen = [part for part, weight in PARTS.items() if part in plan.parts and weight]
    weights = [PARTS[part] for part in chosen]
    kinds = list(chosen)
    while KILLS & set(chosen) and sum(kind in KILLS for kind in kinds) < plan.kills:
        kinds += draw.choices(chosen, weights)
    draw.shuffle(kinds)
    width = (plan.seconds - FIRST_STEP_SECONDS) / max(1, len(kinds))
    starts = [FIRST_STEP_SECONDS + width * (place + draw.random()) for place in range(len(kinds))]
    return [_step(draw, plan, at, kind) for at, kind in zip(starts, kinds, strict=True)]


def make_tree_steps(plan: Plan) -> list[Step]:
    """Return the kills of `python main.py`."""
    draw = random.Random(plan.seed)
    starts = [SECONDS_OF_A_TREE * (number + draw.uniform(0.2, 0.6)) for number in range(plan.trees)]
    return [_step(draw, plan, at, "tree") for at in starts]


def _step(draw: random.Random, plan: Plan, at: float, part: str) -> Step:
    seconds = min(draw.uniform(*SECONDS.get(part, SECONDS_OF_A_KILL)), plan.seconds / 2)
    amount = {"clock": draw.choice(CLOCK_STEPS), "disk": draw.randint(*SYNC_MS)}.get(part, 0)
    return Step(at, part, seconds, draw.randrange(plan.workers), amount)
