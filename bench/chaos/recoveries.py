"""How long jobs of killed workers waited until they ran again, and which ended calls were made again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.parts import Moments

# A job that both a worker and Valkey died under counts as such if both were away within this time.
TOGETHER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """A job that began again. `kind` is what it had to be recovered from.

    `seconds`: from the last moment that could matter, the death of its worker or the return of Valkey, Qdrant or the
    whole tree, until it began again. None without any such moment: then nothing explains why it ran again.
    """

    job_id: str
    kind: str
    seconds: float | None


def find_recoveries(begins: Path, moments: Moments) -> Iterator[Recovery]:
    """Yield each recovery, from the log of the workers."""
    runs: dict[str, list[tuple[float, int]]] = {}
    for line in begins.read_text().splitlines():
        job_id, process, moment = line.split()
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
        kind = died or ("Valkey" if back["valkey"] else "Qdrant" if back["qdrant to its clients"] else "nothing")
    return Recovery(job_id, kind, again - max(causes) if causes else None)


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
