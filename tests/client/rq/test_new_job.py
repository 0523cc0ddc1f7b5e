"""A new job's record is the one that RQ writes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from redis import Redis
from rq.job import Job, JobStatus

from client.rq.fair_queue import record_fields
from client.rq.new_job import NewJob
from client.rq.origin import JobOrigin
from client.rq.serializer import NotPlainData, PlainSerializer


def new(**changes: Any) -> NewJob:
    job = NewJob(
        id="job-1",
        function="queues.worker.process_query",
        payload={"query": "Why? ä"},
        queue="rag_x",
        created_at=datetime.now(UTC),
        timeout_seconds=60,
        ttl_seconds=600,
    )
    return replace(job, **changes)


@pytest.mark.parametrize("is_enqueued", [True, False])
def test_the_record_is_the_one_that_rq_writes(is_enqueued: bool, valkey: Redis) -> None:
    job = new(is_enqueued=is_enqueued)
    of_rq = Job.create(
        job.function,
        args=(job.payload,),
        id=job.id,
        origin=job.queue,
        connection=valkey,
        timeout=60,
        result_ttl=600,
        failure_ttl=600,
        status=JobStatus.QUEUED,
        description="process_query",
        serializer=PlainSerializer,
    )
    of_rq.created_at = job.created_at
    if is_enqueued:
        of_rq.enqueued_at = job.created_at
    assert job.record() == of_rq.to_dict()


def test_the_id_of_a_request_is_among_the_notes(valkey: Redis) -> None:
    fields = record_fields(new(origin=JobOrigin(request_id="question-77")).record(), "ann")
    valkey.hset("rq:job:job-1", items=cast("Any", fields))
    assert Job.fetch("job-1", connection=valkey).meta == {"request_id": "question-77"}


def test_a_stored_record_is_read_by_rq(valkey: Redis) -> None:
    job = new()
    fields = record_fields(job.record(), "ann")
    valkey.hset(f"rq:job:{job.id}", items=cast("Any", fields))
    read = Job.fetch(job.id, connection=valkey)
    assert (read.func_name, read.args, read.kwargs) == (job.function, (job.payload,), {})
    assert (read.created_at, read.enqueued_at) == (job.created_at, job.created_at)
    assert (read.origin, read.timeout, read.get_status()) == ("rag_x", 60, JobStatus.QUEUED)


@pytest.mark.parametrize("value", [object(), JobStatus.QUEUED, "\ud800", 1 << 10_000])
def test_a_payload_of_more_than_plain_data_is_refused(value: object) -> None:
    with pytest.raises(NotPlainData):
        new(payload={"query": value}).record()
