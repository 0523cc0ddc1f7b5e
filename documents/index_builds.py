"""The builds of versions of the index, as the API sees them: their state, and that their jobs go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from client.rq.build_index import OWNER
from client.rq.build_task import BuildTask
from client.rq.ids import new_id
from client.rq.records import BUILD_INDEX
from client.rq_client import JobQueue
from client.sql.index_versions import (
    RETIRED,
    SEARCHED,
    UNDER_WAY,
    BuildProgress,
    IndexVersion,
    IndexVersionRepository,
    VersionState,
    in_states,
)
from documents.threads import InThread
from errors import JobExpired, JobNotFound
from schemas import JobView, Priority

# A version younger than this may be between its commit and the submission of its job.
YOUNG_SECONDS = 5.0
# A failed build is tried again after this time: a provider may have been away.
RETRY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class IndexState:
    """The version of the index that is searched, None before the first; one that is being built, if any; and others.

    `earlier`: versions that are searched no more, until they are removed.
    """

    searched: IndexVersion | None
    building: IndexVersion | None = None
    progress: BuildProgress | None = None
    earlier: tuple[IndexVersion, ...] = ()


class IndexBuilds:
    """Reads the state of builds, and keeps their jobs going. Raises UploadsUnavailable and QueueUnavailable."""

    def __init__(self, versions: IndexVersionRepository, queue: JobQueue, *, in_sql_thread: InThread) -> None:
        self._versions = versions
        self._queue = queue
        self._in_sql_thread = in_sql_thread

    async def state(self) -> IndexState:
        """Return what is searched and what is built now."""
        return await self._in_sql_thread(read_state, self._versions)

    async def versions(self) -> dict[int, IndexVersion]:
        """Return all versions by their ids."""
        return {version.version_id: version for version in await self._in_sql_thread(self._versions.all)}

    async def request(self, *, owner: str, again: bool) -> str:
        """Have a worker begin to build the version that its settings ask for; return the id of the owner's job."""
        return await self._submit(BuildTask(begin=True, again=again), new_id(), owner=owner)

    async def supervise(self) -> None:
        """Submit the job of a version that is to be built or removed again if it was lost or has ended."""
        version = await self._in_sql_thread(self._unfinished)
        if version is None or _seconds_since(version.changed_at) < YOUNG_SECONDS:
            return
        job = None if version.job_id is None else await self._fetch(version.job_id)
        if job is not None and not job.status.terminal:
            return
        job_id = version.job_id if version.job_id is not None and job is None else new_id()
        if await self._in_sql_thread(self._set_job, version, job_id):
            await self._submit(BuildTask(), job_id)

    def _unfinished(self) -> IndexVersion | None:
        """Return a version that needs a job, if any. A failed build needs one once its time has come."""
        version = self._versions.under_way()
        if version is None:
            return next(iter(self._versions.retired()), None)
        if version.state is VersionState.FAILED:
            if _seconds_since(version.changed_at) < RETRY_SECONDS:
                return None
            self._versions.resume(version)
        return version

    def _set_job(self, version: IndexVersion, job_id: str) -> bool:
        return self._versions.set_job(version, job_id)

    async def _fetch(self, job_id: str) -> JobView | None:
        try:
            return await self._queue.fetch(job_id)
        except (JobNotFound, JobExpired):
            return None

    async def _submit(self, task: BuildTask, job_id: str, *, owner: str = OWNER) -> str:
        await self._queue.submit(
            "document",
            task.model_dump(mode="json"),
            owner=owner,
            function=BUILD_INDEX,
            job_id=job_id,
            priority=Priority.LOW,
        )
        return job_id


def read_state(versions: IndexVersionRepository) -> IndexState:
    """Return what is searched, what is built now, and what was searched before. Raises UploadsUnavailable."""
    every = versions.all()
    building = next(in_states(every, UNDER_WAY), None)
    progress = None if building is None else versions.progress(building)
    return IndexState(next(in_states(every, SEARCHED), None), building, progress, tuple(in_states(every, RETIRED)))


def _seconds_since(then: datetime) -> float:
    return (datetime.now(UTC) - then).total_seconds()
