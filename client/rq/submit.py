"""Putting a job into Valkey: its record, what it waits for or its place on the queue, and the first of its events.

It is one script, so that a job is there as a whole or not at all, and so that turns of a conversation come in one
order: each finds the one before it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from rq.job import Job

from client.rq.dependencies import AFTER
from client.rq.event_stream import TELL_QUEUED, UNENDED_SECONDS, events_key
from client.valkey.conversations import MAX_JOBS, TAKE_TURN

# KEYS: job, its events, jobs of its conversation if it has one. ARGV: queue, id, seconds to keep the events and the
# jobs of the conversation, number of dependencies, their ids, then the fields of the job. A job that is there already
# is left as it is, and so is everything else.
_SUBMIT: Final = (
    AFTER
    + TAKE_TURN
    + TELL_QUEUED
    + """
local queue, job, count, before = ARGV[1], ARGV[2], tonumber(ARGV[5]), {}
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 6 + count))
for place = 6, 5 + count do before[#before + 1] = ARGV[place] end
if KEYS[3] then before[#before + 1] = turn_before(KEYS[3], job, @JOBS@, ARGV[4]) end
if #before > 0 then
  redis.call('HSET', KEYS[1], 'dependency_id', before[1], 'dependency_ids', cjson.encode(before),
    'allow_dependency_failures', 1)
end
if not defer(queue, job, before) then
  adopt(queue)
  take_turn(queue, job)
end
tell_queued(KEYS[2], queue, job, ARGV[3])
return 1
""".replace("@JOBS@", str(MAX_JOBS))
)

_SUBMIT_SHA: Final = hashlib.sha1(_SUBMIT.encode(), usedforsecurity=False).hexdigest()


def submit(
    pipeline: Any,
    job: Job,
    fields: Sequence[Any],
    *,
    after: Sequence[str] = (),
    conversation: str | None = None,
    ttl_seconds: int,
    again: bool = False,
) -> None:
    """Add to a transaction, sync or async: write a job and put it on its queue, or let it wait.

    `fields`: what `fair_queue.record_fields` returns. `after`: jobs that have to end first. `conversation`: the key of
    its jobs, of which the last has to end first, too; it is kept for `ttl_seconds` of a result and for as long as a job
    may take to end. `again`: this is not the transaction's first, so that the script need not be sent once more.
    """
    keys = [job.key, events_key(job.id)] + ([] if conversation is None else [conversation])
    arguments = [job.origin, job.id, UNENDED_SECONDS, ttl_seconds + UNENDED_SECONDS, len(after), *after, *fields]
    run, script = (pipeline.evalsha, _SUBMIT_SHA) if again else (pipeline.eval, _SUBMIT)
    run(script, len(keys), *keys, *arguments)
