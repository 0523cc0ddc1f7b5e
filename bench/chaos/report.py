"""What a run has found, and whether a promise was broken."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.chaos.plan import KILLS
from bench.chaos.recoveries import EndedCalls, Recovery
from bench.chaos.sightings import Ended, Sightings

MAX_TWICE = 0.005
# The longest recoveries that are allowed at the 99th percentile, in seconds, by what died.
MAX_SECONDS = {
    "worker": 8.0,
    "stopped worker": 8.0,
    "worker and Valkey": 15.0,
    "stopped worker and Valkey": 15.0,
    "tree": 15.0,
}


@dataclass
class Report:
    """The counts of one service under one plan."""

    seen: Sightings
    happened: Counter[str]
    calls: EndedCalls
    recoveries: list[Recovery]
    ended_by_itself: list[str] = field(default_factory=list)

    def broken(self, *, twice: float = MAX_TWICE, more_seconds: float = 0.0) -> list[str]:
        """Return a sentence for each promise that was broken.

        `twice`: the share of ended calls that may be made again. Recoveries may take so many seconds more.
        """
        seen, found = self.seen, []
        for count, what in (
            (len(seen.lost), "jobs were lost"),
            (len(seen.conflicting), "jobs had two ends"),
            (len(seen.failed), "jobs failed"),
            (len(seen.uncited), "answers cite nothing"),
            (len(seen.without_webhook), "webhooks did not come"),
            (len(seen.not_found), "documents are not found"),
            (len(seen.stores) - len(seen.complete_stores), "vector stores are incomplete"),
            (len(seen.wrong_turns), "conversations have other turns than were asked and answered"),
            (len(self.ended_by_itself), "processes ended though nobody killed them"),
        ):
            if count:
                found.append(f"{count} {what}")
        if self.calls.share > twice:
            found.append(f"{100 * self.calls.share:.2f} % of the ended calls were made twice")
        for kind, seconds in self._seconds_by_kind().items():
            if percentile(seconds, 99) > MAX_SECONDS.get(kind, math.inf) + more_seconds:
                found.append(f"recovery from the death of {kind} took {percentile(seconds, 99):.1f} s (p99)")
        return found

    def lines(self) -> list[str]:
        """Return the report."""
        seen, calls = self.seen, self.calls
        twice = sum(count > 1 for count in seen.webhooks.values())
        kills = sum(count for part, count in self.happened.items() if part in KILLS)
        ended = Counter(f"{kind} {ended.status}" for kind, ended in self._ends())
        lines = [
            f"happened               {_counts(self.happened)}: {kills} kills",
            f"acknowledged           {len(seen.jobs)} questions, {len(seen.uploads)} uploads",
            f"questions by client    {_counts(Counter(seen.jobs.values()))}",
            f"terminal               {len(seen.ended)}: {_counts(ended)}",
            f"lost                   {len(seen.lost)}",
            f"conflicting            {len(seen.conflicting)}",
            f"failed for the machine {len(seen.failed)}",
            f"without a citation     {len(seen.uncited)}",
            f"documents not found    {len(seen.not_found)} of {Counter(seen.states.values())['ready']} ready",
            f"vector stores          {len(seen.stores)}: {_counts(Counter(seen.stores.values()))}",
            f"conversations          {len(seen.turns)}, with other turns than asked: {len(seen.wrong_turns)}",
            f"webhooks               {len(seen.webhooks)} came, {twice} twice, {len(seen.without_webhook)} missing",
            f"ended calls twice      {len(calls.twice)} of {calls.total}: {calls.share:.2%}; unheard {calls.unheard}",
        ]
        lines += [f"  {call}" for call in self.calls.twice]
        for kind, seconds in sorted(self._seconds_by_kind().items()):
            lines.append(
                f"recovery               {kind}: {len(seconds)} jobs, p50 {percentile(seconds, 50):.1f} s, "
                f"p99 {percentile(seconds, 99):.1f} s, longest {max(seconds):.1f} s"
            )
        unexplained = sum(recovery.kind == "nothing" for recovery in self.recoveries)
        lines.append(f"ran again for nothing  {unexplained}")
        lines.append(f"outages seen           {_counts(seen.outages)}")
        return lines

    def details(self, limit: int = 12) -> list[str]:
        """Return the ids to look for in the logs."""
        seen = self.seen
        named = {"lost": seen.lost, "conflicting": sorted(seen.conflicting), "uncited": seen.uncited}
        named |= {"not found": seen.not_found, "ended by itself": self.ended_by_itself}
        named |= {"no webhook": seen.without_webhook, "turns": seen.wrong_turns}
        named["failed"] = [f"{job_id} {seen.ended[job_id].text}" for job_id in seen.failed]
        late = sorted(self.recoveries, key=lambda one: -(one.seconds or 0))[:limit]
        named["slowest recoveries"] = [f"{one.job_id} {one.kind} {one.seconds or 0:.1f} s" for one in late]
        return [f"{name}: {entry}" for name, entries in named.items() for entry in entries[:limit]]

    def _ends(self) -> Iterable[tuple[str, Ended]]:
        uploads = set(self.seen.uploads.values())
        return (("uploads" if job in uploads else "questions", ended) for job, ended in self.seen.ended.items())

    def _seconds_by_kind(self) -> dict[str, list[float]]:
        by_kind: dict[str, list[float]] = {}
        for recovery in self.recoveries:
            if recovery.seconds is not None:
                by_kind.setdefault(recovery.kind, []).append(recovery.seconds)
        return by_kind


def percentile(values: list[float], percent: int) -> float:
    """Return the value that so many percent of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "nothing"
