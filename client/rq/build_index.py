"""How a step of building a version of the index is put on its queue, from code that blocks.

Each step is a job of its own, of low priority, so that uploads and other users' documents go first.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from redis import Redis

from client.rq.build_task import BuildTask
from client.rq.new_job import NewJob
from client.rq.records import BUILD_INDEX, QUEUES
from client.rq.submit import SUBMIT, Submission
from schemas import Priority
from settings import Settings

# No user: the job belongs to the deployment.
OWNER: Final = "#index"


def submit_step(valkey: Redis, job_id: str, settings: Settings) -> None:
    """Put a step on the queue under an id that was made before. Raises RedisError."""
    job = NewJob(
        id=job_id,
        function=BUILD_INDEX,
        payload=BuildTask().model_dump(mode="json"),
        queue=QUEUES["document"],
        created_at=datetime.now(UTC),
        timeout_seconds=settings.ingestion_timeout_seconds,
        ttl_seconds=settings.result_ttl_seconds,
    )
    submission = Submission(job, OWNER, Priority.LOW)
    SUBMIT.call(valkey, *submission.call(result_ttl_seconds=settings.result_ttl_seconds))
