"""Uploads, deletes, re-indexes and crashes at random, and nothing left over at the end."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from client.rq.records import REMOVE_UPLOAD
from documents import service
from documents.access_filter import AccessFilter
from documents.service import DocumentService, OnDuplicate
from errors import AppError, DocumentError, JobNotFound, QueueUnavailable
from queues.jobs.consistency import check_consistency
from queues.jobs.indexing import index_upload, remove_upload
from queues.wiring import Services, open_services
from schemas import JobStatus, JobView, SearchFilter, UploadStatus, UploadTask
from settings import load_settings
from tests.support.faults import Crash, Fault, Faulty, faulty

CONTENTS = [
    b"The lighthouse was built in 1887.",
    b"The lamp turns once in twelve seconds.",
    " ".join(f"Sentence {n} of the keeper's diary." for n in range(3_000)).encode(),
    b"\n\n \n",
]
MOMENTS = st.tuples(st.integers(0, 6), st.booleans())


class InMemoryQueue:
    """A queue in memory, with the methods of JobQueue that DocumentService calls."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[str, UploadTask]] = {}
        self.ended: dict[str, JobStatus] = {}
        self.away = False

    async def submit(
        self,
        _kind: str,
        payload: dict[str, Any],
        *,
        owner: str,
        function: str | None = None,
        job_id: str | None = None,
        max_waiting: int | None = None,
    ) -> None:
        if self.away:
            raise QueueUnavailable("away")
        assert owner == payload["user_id"]
        assert max_waiting is None
        assert function is not None
        assert job_id is not None
        if job_id not in self.ended:
            self.waiting.setdefault(job_id, (function, UploadTask.model_validate(payload)))

    async def fetch(self, job_id: str) -> JobView:
        if self.away:
            raise QueueUnavailable("away")
        if job_id not in self.waiting and job_id not in self.ended:
            raise JobNotFound("gone")
        status = self.ended.get(job_id, JobStatus.QUEUED)
        return JobView(job_id=job_id, kind="document", status=status, created_at="2026-01-01T00:00:00Z")

    async def release_stranded(self, *, waiting_seconds: float) -> int:
        assert waiting_seconds >= 0
        return 0


class UploadMachine(RuleBasedStateMachine):
    """One API process and one worker over real stores. Each process may die at any change."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.services: Services = open_services(load_settings(data_dir=Path(self.folder.name)), owner=True)
        self.queue = InMemoryQueue()
        self.deleted: set[str] = set()

    @rule(
        content=st.sampled_from(CONTENTS), on_duplicate=st.sampled_from(OnDuplicate), moment=MOMENTS, away=st.booleans()
    )
    def upload(self, content: bytes, on_duplicate: OnDuplicate, moment: tuple[int, bool], away: bool) -> None:
        self.queue.away = away
        self.as_api(moment, lambda api: api.accept(io.BytesIO(content), name="notes.txt", on_duplicate=on_duplicate))

    @rule(number=st.integers(0, 5), moment=MOMENTS, away=st.booleans())
    def delete(self, number: int, moment: tuple[int, bool], away: bool) -> None:
        self.queue.away = away
        for upload_id in self.ids()[number : number + 1]:
            if self.as_api(moment, lambda api, upload_id=upload_id: api.delete(upload_id)):  # type: ignore[misc]
                self.deleted.add(upload_id)

    @rule(number=st.integers(0, 5), moment=MOMENTS)
    def reindex(self, number: int, moment: tuple[int, bool]) -> None:
        for upload_id in self.ids()[number : number + 1]:
            self.as_api(moment, lambda api, upload_id=upload_id: api.reindex(upload_id))  # type: ignore[misc]

    @rule(moment=st.tuples(st.integers(0, 12), st.booleans()), lost=st.booleans())
    def work(self, moment: tuple[int, bool], lost: bool) -> None:
        """Run a job. When the worker dies, the job is run again later, or lost with Valkey."""
        for job_id, (function, task) in list(self.queue.waiting.items())[:1]:
            try:
                self.run(faulty(self.services, fault(moment)), function, task, job_id)
            except Crash:
                if lost:
                    del self.queue.waiting[job_id]
                continue
            except AppError:
                self.queue.ended[job_id] = JobStatus.FAILED
            else:
                self.queue.ended[job_id] = JobStatus.FINISHED
            self.queue.waiting.pop(job_id, None)

    @rule()
    def reconcile(self) -> None:
        self.queue.away = False
        asyncio.run(self.api(self.services.uploads, self.services.files).reconcile_unfinished())

    @invariant()
    def deleted_uploads_are_not_found(self) -> None:
        if self.any_points():
            searched = self.services.index.searched()
            version = searched.version.version_id
            store = AccessFilter(searched.store, self.services.uploads, index_version=version)
            [found] = store.search("lighthouse lamp diary sentence", None, [SearchFilter(user_id="local")], 50)
            assert not found.uploads & self.deleted

    def teardown(self) -> None:
        """Run all waiting jobs, then look for inconsistencies."""
        try:
            self.queue.away = False
            for _ in range(20):
                asyncio.run(self.api(self.services.uploads, self.services.files).reconcile_unfinished())
                while self.queue.waiting:
                    self.work((0, False), lost=False)
                if not self.services.uploads.unfinished(unchanged_seconds=0):
                    break
            assert not self.services.uploads.unfinished(unchanged_seconds=0), "every upload has ended"
            self.nothing_is_left_over()
        finally:
            self.services.close()
            self.folder.cleanup()

    def nothing_is_left_over(self) -> None:
        wrong_counts = [each for each in self.inconsistencies() if "points for" in each.description]
        assert not wrong_counts, "ready is ready"
        for each in self.inconsistencies():
            each.repair()
        assert self.inconsistencies() == []
        rows = list(self.services.uploads.all())
        ready = {("local", row.upload_id): row.chunks for row in rows if row.status is UploadStatus.READY}
        again = {("local", row.upload_id) for row in rows if row.status is UploadStatus.FAILED}
        points = self.services.store.count_by_upload()
        assert {key: count for key, count in points.items() if key not in again} == ready
        assert {row.file_id for row in rows} == {file_id for file_id, _ in self.services.files.all()}
        assert not {row.upload_id for row in rows} & self.deleted

    def inconsistencies(self) -> list[Any]:
        return list(check_consistency(self.services, reindex=lambda _: None, min_file_age_seconds=0))

    def run(self, services: Services, function: str, task: UploadTask, job_id: str) -> None:
        if function == REMOVE_UPLOAD:
            remove_upload(task, services)
        else:
            index_upload(task, services, lambda _: None, job_id=job_id)

    def as_api(self, moment: tuple[int, bool], call: Callable[[DocumentService], Any]) -> bool:
        """Make a call to an API that may die during the call. True if the call succeeded."""
        at_moment = fault(moment)
        try:
            asyncio.run(
                call(self.api(Faulty(self.services.uploads, at_moment), Faulty(self.services.files, at_moment)))
            )
        except (Crash, QueueUnavailable, DocumentError):
            return False
        except AppError:
            return False
        return True

    def api(self, uploads: Any, files: Any) -> DocumentService:
        return DocumentService(uploads, files, self.queue)  # type: ignore[arg-type]

    def ids(self) -> list[str]:
        return [upload.upload_id for upload in self.services.uploads.all()]

    def any_points(self) -> bool:
        return bool(self.services.store.count_by_upload())


def fault(moment: tuple[int, bool]) -> Fault:
    at, after = moment

    def crash() -> None:
        raise Crash

    return Fault(at, after=after, crash=crash)


def test_no_order_of_uploads_deletes_and_crashes_leaves_anything_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("YOUNG_SECONDS", "UNCHANGED_SECONDS"):
        monkeypatch.setattr(service, name, 0.0)
    run_state_machine_as_test(
        UploadMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=20,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],  # a failure took minutes to shrink
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
