"""One run: a service, its clients, and what happens to it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from pprint import pformat

from bench.chaos import faults
from bench.chaos.clients import open_clients
from bench.chaos.faults import Faults
from bench.chaos.killer import Killer
from bench.chaos.parts import Service, separate_parts, whole_tree
from bench.chaos.plan import NEED_LIBRARY, Plan, Step, make_steps, make_tree_steps
from bench.chaos.recoveries import find_ended_calls, find_recoveries
from bench.chaos.report import Report


def run(plan: Plan, folder: Path) -> Report:
    """Run the parts of a plan in a folder: workers, API, Valkey and Qdrant as separate processes."""
    make_faults = faults.AVAILABLE and bool(NEED_LIBRARY & plan.parts)
    with separate_parts(
        folder, Faults(folder) if make_faults else None, workers=plan.workers, at_once=plan.at_once
    ) as service:
        return asyncio.run(_run(service, plan, make_steps(plan)))


def run_tree(plan: Plan, folder: Path) -> Report:
    """Run `python main.py` in a folder, and kill all its processes at once again and again."""
    with whole_tree(folder, at_once=plan.at_once) as service:
        return asyncio.run(_run(service, plan, make_tree_steps(plan)))


async def _run(service: Service, plan: Plan, steps: list[Step]) -> Report:
    killer = Killer(service)
    keeper = asyncio.create_task(service.valkey.keep()) if service.valkey is not None else None
    try:
        async with open_clients(service, seed=plan.seed) as clients:
            await clients.prepare()
            async with asyncio.TaskGroup() as tasks:  # an error in one ends both
                tasks.create_task(killer.run(steps))
                tasks.create_task(clients.send(questions=plan.questions, uploads=plan.uploads, seconds=plan.seconds))
            await clients.check()
    finally:
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
    (service.folder / "moments.log").write_text(pformat(service.moments))
    return Report(
        clients.seen,
        killer.done,
        find_ended_calls(service.folder / "calls.log", service.moments),
        list(find_recoveries(service.begins, service.moments)),
        service.ended_by_itself(),
    )
