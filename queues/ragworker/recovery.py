"""Taking jobs from workers that died.

A worker on the same host sees at once that the process which held a job is dead. Of any other job the lease has to run
out, and this worker has to see that for a while: after an outage of Valkey every lease has run out, though the workers
live. Taking a job from a worker that lives after all wastes its work, and no more: each step of a job is fenced.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from client.rq.transitions import DIED, JobTransitions
from client.valkey import keys
from observability import metrics
from queues.measuring import count_lost_job

log = logging.getLogger("rq.worker")

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often a worker does each part of its maintenance, and for how long it waits before it acts. In seconds.

    After an outage of Valkey every lease has run out. The workers that live renew their leases within 5 s of Valkey's
    return. So a worker recovers jobs by their leases only when it has seen Valkey for `steady`, without a gap of more
    than `max_gap`; when Valkey has run for `valkey_uptime`; and when it has seen the lease expired for `grace`.
    A lease of 3 s, the grace and two checks make 7 s from the death of a worker to the recovery of its jobs.

    A death does not count against a job when Valkey had started less than `outage` before.

    A job in RQ's intermediate list for `unstarted` counts as lost: a stock worker leaves a job there for milliseconds.
    """

    heartbeat: float = 1.0
    recovery: float = 1.0
    prune: float = 60.0
    steady: float = 5.0
    max_gap: float = 3.0
    valkey_uptime: float = 5.0
    grace: float = 2.0
    outage: float = 30.0
    unstarted: float = 15.0


class Recovery:
    """Recovers the jobs of dead workers, for one worker of `queues`. Every method raises RedisError."""

    def __init__(self, transitions: JobTransitions, queues: Sequence[str], intervals: Intervals) -> None:
        self._transitions = transitions
        self._intervals = intervals
        # By queue: when this worker first saw that the lease of an execution had run out, in Unix seconds.
        self._expired_since: dict[str, dict[Pair, float]] = {queue: {} for queue in queues}
        # By queue: when this worker first saw each id in RQ's intermediate list.
        self._unstarted_since: dict[str, dict[str, float]] = {queue: {} for queue in queues}
        # By queue: the dead executions, and the dead process that holds each; '' where only the lease tells.
        self._dead: dict[str, dict[Pair, str]] = {queue: {} for queue in queues}

    def find(self, queue: str, now: float, *, steady: bool) -> None:
        """Find what has to be recovered. `steady`: this worker has seen Valkey for long enough to trust leases."""
        expired = self._find_expired(queue, now)
        self._dead[queue] = dict.fromkeys(expired, "") if steady else {}
        for process in self._transitions.find_dead_processes(queue):
            self._dead[queue] |= dict.fromkeys(self._transitions.find_held_by(queue, process), process)

    def recover(self, queue: str, now: float, *, steady: bool) -> None:
        """Recover what `find` found, for all queues."""
        dead, unstarted = self._dead[queue], self._find_unstarted(queue, now)
        if not dead and not unstarted:
            return
        uptime = self._valkey_uptime()
        settled = uptime >= self._intervals.valkey_uptime
        alone = sum(map(len, self._dead.values())) == 1 and uptime >= self._intervals.outage
        for execution, process in dead.items():
            if process or settled:
                self._take(queue, execution, process, alone=alone)
        for job_id in unstarted if settled and steady else ():
            self._restore(queue, job_id)

    def _take(self, queue: str, execution: Pair, process: str, *, alone: bool) -> None:
        for job_id, verdict in self._transitions.recover(queue, [execution], alone=alone, dead=process):
            log.warning("%s: %s was held by a worker that died: %s", queue, job_id, verdict)
            metrics.count(metrics.RECOVERIES)
            if verdict == "dead":
                count_lost_job(queue, DIED["code"])

    def _restore(self, queue: str, job_id: str) -> None:
        """Put a job back that a stock worker took and never started."""
        if self._transitions.restore_unstarted(queue, job_id):
            log.warning("%s: %s was taken by a worker that died before it started the job: requeued", queue, job_id)
            metrics.count(metrics.RECOVERIES)
        self._unstarted_since[queue].pop(job_id, None)

    def _find_expired(self, queue: str, now: float) -> list[Pair]:
        """Return the executions whose lease this worker has seen expired for `intervals.grace`."""
        before = self._expired_since[queue]
        since = {pair: before.get(pair, now) for pair in self._transitions.find_expired(queue)}
        self._expired_since[queue] = since
        return [pair for pair, first_seen in since.items() if now - first_seen >= self._intervals.grace]

    def _find_unstarted(self, queue: str, now: float) -> list[str]:
        """Return the ids that this worker has seen in RQ's intermediate list for `intervals.unstarted`."""
        listed = cast("list[bytes]", self._transitions.valkey.lrange(keys.intermediate(queue), 0, -1))
        before = self._unstarted_since[queue]
        since = {job_id: before.get(job_id, now) for job_id in (value.decode(errors="replace") for value in listed)}
        self._unstarted_since[queue] = since
        return [job_id for job_id, first_seen in since.items() if now - first_seen >= self._intervals.unstarted]

    def _valkey_uptime(self) -> float:
        info = cast("dict[str, int]", self._transitions.valkey.info("server"))
        return float(info["uptime_in_seconds"])
