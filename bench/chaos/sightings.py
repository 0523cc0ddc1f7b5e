"""What the clients of a run have seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: `finished`, `failed` or `cancelled`, with its result or error, and if it cites a source."""

    status: str
    text: str
    cited: bool

    @classmethod
    def of_result(cls, body: Mapping[str, Any]) -> Self:
        """Read an answer of GET /result, or the last event of a stream."""
        status = "finished" if body["status"] == "completed" else str(body["status"])
        return cls(status, str(body.get("result") or body.get("error")), bool(body.get("sources")))

    @classmethod
    def of_webhook(cls, data: Mapping[str, Any]) -> Self:
        return cls(str(data["status"]), str(data.get("result") or data.get("error")), bool(data.get("sources")))


@dataclass
class Sightings:
    """What was acknowledged, how each job ended, and each outage that a client has met.

    `jobs`: the kind of client of each acknowledged job. `uploads`: the job of each acknowledged upload. `states`: how
    each upload ended. `stores`: the state of the file in each vector store. `turns`: the questions of each
    conversation, by their jobs; `wrong_turns`: sentences about conversations that have others. `webhooks` counts what
    came for each job. `outages` counts by name.
    """

    jobs: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    stores: dict[str, str] = field(default_factory=dict)
    turns: dict[str, dict[str, str]] = field(default_factory=dict)
    wrong_turns: list[str] = field(default_factory=list)
    ended: dict[str, Ended] = field(default_factory=dict)
    conflicting: set[str] = field(default_factory=set)
    vanished: set[str] = field(default_factory=set)
    not_found: list[str] = field(default_factory=list)
    webhooks: Counter[str] = field(default_factory=Counter)
    outages: Counter[str] = field(default_factory=Counter)

    def note_end(self, job_id: str, ended: Ended) -> None:
        """Note how a job ended; another end than before is a conflict."""
        if self.ended.setdefault(job_id, ended) != ended:
            self.conflicting.add(job_id)

    @property
    def acknowledged(self) -> list[str]:
        return [*self.jobs, *self.uploads.values()]

    @property
    def lost(self) -> list[str]:
        """The acknowledged jobs without an end, and those that vanished."""
        return [job_id for job_id in self.acknowledged if job_id not in self.ended or job_id in self.vanished]

    @property
    def complete_stores(self) -> list[str]:
        return [store_id for store_id, state in self.stores.items() if state == "completed"]

    @property
    def failed(self) -> list[str]:
        return [job_id for job_id, ended in self.ended.items() if ended.status != "finished"]

    @property
    def uncited(self) -> list[str]:
        """The questions whose answer cites nothing, though a document answers every one of them."""
        return [job_id for job_id in self.jobs if job_id in self.ended and not self.ended[job_id].cited]

    @property
    def without_webhook(self) -> list[str]:
        """The ended jobs that asked for a webhook and got none."""
        return [job_id for job_id, kind in self.jobs.items() if kind == "webhook" and not self.webhooks[job_id]]
