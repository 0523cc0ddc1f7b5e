"""How long jobs of killed workers waited until they ran again, and which ended calls were made again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.chaos.parts import Moments

# A job that both a worker and Valkey died under counts as such if both were away within this time.
TOGETHER_SECONDS = 3.0
# In the log of the workers in place of a job: the worker is about to take jobs.
READY = "ready"


@dataclass(frozen=True, slots=True)
class Recovery:
    """A job that began again. `kind` is what it had to be recovered from.

    `seconds`: from the last moment that could matter until it began again, None without any such moment. That is the
    death of its worker, the return of Valkey, Qdrant or the whole tree, or the moment since which any worker has run.
    """

    job_id: str
    kind: str
    seconds: float | None


def find_recoveries(begins: Path, moments: Moments) -> Iterator[Recovery]:
    """Yield each recovery, from the log of the workers."""
    runs: dict[str, list[tuple[float, int]]] = {}
    moments = replace(moments, ready=[])
    for line in begins.read_text().splitlines():
        job_id, process, moment = line.split()
        if job_id == READY:
            moments.ready.append((float(moment), int(process)))
        else:
            runs.setdefault(job_id, []).append((float(moment), int(process)))
    for job_id, begun in runs.items():
        for (begin, pid), (again, _) in itertools.pairwise(sorted(begun)):
            yield _recovery(job_id, begin, again, pid, moments)


def _recovery(job_id: str, begin: float, again: float, pid: int, moments: Moments) -> Recovery:
    killed = [when for when, which in moments.killed if which == pid and begin <= when <= again]
    stopped = [when for when, _, which, _ in moments.stopped if which == pid and begin <= when <= again]
    first = min([*killed, *stopped], default=begin)
    back = {
        part: [when for when in moments.back_times(part) if begin <= when <= again]
        for part in ("valkey", "qdrant to its clients", "tree")
    }
    causes = [*killed, *stopped, *itertools.chain(*back.values())]
    valkey = moments.was_down("valkey", first - TOGETHER_SECONDS, again)
    died = "tree" if back["tree"] else "worker" if killed else "stopped worker" if stopped else ""
    if died and died != "tree" and valkey:
        kind = f"{died} and Valkey"
    else:
        qdrant = moments.was_down("qdrant to its clients", begin, again)
        kind = died or ("Qdrant" if qdrant else "Valkey" if back["valkey"] else "nothing")
    last = max(causes, default=None)
    return Recovery(job_id, kind, None if last is None else again - max(last, moments.staffed_since(again)))


@dataclass(frozen=True, slots=True)
class EndedCalls:
    """Calls of the model provider that ended: of all, those made again for the same question or the same chunk.

    `twice` has a sentence for each call that could have been kept. `unheard`: calls whose worker was stopped or dead
    when they ended.
    """

    total: int
    twice: list[str]
    unheard: int

    @property
    def share(self) -> float:
        return len(self.twice) / max(1, self.total)


def find_ended_calls(calls: Path, moments: Moments) -> EndedCalls:
    """Count the answers and the batches of embeddings in the provider's log."""
    heard: dict[str, tuple[str, float]] = {}  # by key: who called, and when the call ended
    total, unheard, twice = 0, 0, []
    for line in calls.read_text().splitlines():
        call = json.loads(line)
        if call["kind"] == "question":
            continue
        total += 1
        before = next((heard[key] for key in call["keys"] if key in heard), None)
        if before is not None:
            caller, at = before
            stops = [(since, until) for since, until, _, name in moments.stopped if name == caller]
            if any(since <= at <= until for since, until in [*stops, *moments.down.get(caller, [])]):
                unheard += 1
            else:
                twice.append(f"{call['kind']} {call['keys'][0]} again; {_what_happened(caller, at, moments)}")
        heard |= dict.fromkeys(call["keys"], (call["caller"], call["at"]))
    return EndedCalls(total, twice, unheard)


def _what_happened(caller: str, at: float, moments: Moments) -> str:
    """Say when the caller of a call died after its end, and whether it could reach Valkey in between."""
    died = min((begin for begin, _ in moments.down.get(caller, []) if begin >= at), default=None)
    if died is None:
        return f"{caller}, which had made the call, did not die"
    away = ", without Valkey" if moments.was_down("valkey", at, died) else ""
    return f"{caller} had made the call and died {died - at:.3f} s after its end{away}"
