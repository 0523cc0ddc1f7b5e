"""The fair order of a queue: its owners take turns in rounds, however many jobs one of them has.

A queue stays RQ's plain list, and the list is in fair order at any moment: a job gets its place when it comes, not when
it is taken. So every kind of worker keeps to the order, and so do positions and `rq info`.

Time is counted in rounds. A job's round follows the round of its owner's last job, but is not before the round of the
job at the head of the list (start-time fair queueing: Goyal, Vin, Cheng, 1996). So each owner has one slot in each
round, and owners without a slot in the previous round come first. An owner who asks rarely is therefore delayed by the
jobs that run already, but not by another owner's flood on the list.

A job of `high` priority adds a slot of its owner to a round, ahead of the round's normal slots. An owner's first slots
are for `high` jobs, the last for `low` jobs, and jobs of one priority keep their order of arrival. So a `high` job
passes all other jobs of its owner, but jobs of other owners only once a round: a flood of `high` jobs starves nobody. A
`low` job lets the other jobs of its owner pass, but not jobs of other owners, and after LOW_SECONDS no job at all.

    rag:turns:{queue}              the jobs on the list, by score: their round, less 0.5 for a `high` job, less 0.25 for
                                   a job whose owner had no slot in the round before; plus STEP for each job of the
                                   same kind in that round. The list is in this order
    rag:turns:{queue}:last         the round of each owner's last slot; `n`, or `h` for `high`, precedes the owner's
                                   name. The current round is under `@`
    rag:turns:{queue}:of:{owner}   the owner's waiting jobs by the same score, or by DEFERRED or RESERVED

Workers need not know these keys: jobs that are no longer on the list are forgotten when the next job comes. Jobs that
RQ itself puts at the end of the list (an enqueue, a schedule, a retry) get a slot from `adopt`; jobs at the front stay
there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from client.rq.records import OWNER_FIELD
from client.rq.scripts import load_script
from client.valkey.scripts import Constant
from schemas import Priority

if TYPE_CHECKING:
    from redis import Redis

# How long the keys are kept after the last job that came.
TTL_SECONDS: Final = 7 * 86_400
# If a new job would move more of its owner's jobs than this, only the first of these jobs moves, to the new slot. Each
# move costs about 5 µs of the server's time.
MAX_MOVED: Final = 200
# A `low` job older than this lets no more jobs of its owner pass.
LOW_SECONDS: Final = 600
MAX_ADOPTED: Final = 1_000

LUA_CONSTANTS: Final[dict[str, Constant]] = {
    "FAIR_QUEUE_TTL": TTL_SECONDS,
    "MAX_MOVED": MAX_MOVED,
    "LOW_SECONDS": LOW_SECONDS,
    "MAX_ADOPTED": MAX_ADOPTED,
}
_ADOPT: Final = load_script("adopt", LUA_CONSTANTS)


def record_fields(record: dict[str, Any], owner: str, priority: Priority = Priority.NORMAL) -> list[Any]:
    """Return a job's record, with its owner and its priority, as HSET takes it: fields and values in turn."""
    fields = record | {OWNER_FIELD: owner, "priority": priority.value}
    return [part for pair in fields.items() if pair[1] is not None for part in pair]


def adopt(valkey: Redis, queue: str) -> int:
    """Give a slot to each job without one at the end of the list; return how many. Raises RedisError."""
    return cast("int", _ADOPT.call(valkey, (), [queue]))
