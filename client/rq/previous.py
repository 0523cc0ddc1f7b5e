"""The turns before a question, read from the jobs of the questions before."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from client.rq.records import add_reads, read_payload, read_replies
from client.valkey import keys
from client.valkey.connection import none_for_wrong_type
from schemas import Answer, JobStatus, Query, Turn


def previous_turns(valkey: Redis, job_id: str, *, owner: str, most: int) -> list[Turn]:
    """Return the turns that end with a job's answer, oldest first, `most` at most.

    A job without an answer, or without a record by now, ends the search. So does an unreachable Valkey.
    """
    turns: list[Turn] = []
    following: str | None = job_id
    with suppress(RedisError, OSError, ValidationError):
        while following is not None and len(turns) < most:
            pipeline = valkey.pipeline(transaction=False)
            add_reads(pipeline, following)
            pipeline.hget(keys.job(following), "data")
            *replies, data = none_for_wrong_type(pipeline.execute(raise_on_error=False))
            job = None if replies[0] is None else read_replies(following, replies[0], replies[1] or ())
            if job is None or job.owner != owner or job.status is not JobStatus.FINISHED:
                break
            query = Query.model_validate(read_payload(data))
            answer = Answer.model_validate(job.result)
            turns = [*query.history, Turn(job_id=following, question=query.query, answer=answer.text), *turns]
            following = query.previous_job_id
    return turns[-most:]
