"""`python main.py audit`: print what does not belong together, and mend it."""

from __future__ import annotations

import asyncio

from client.rq_client import JobQueue
from documents.service import DocumentService
from errors import QueueUnavailable
from queues.jobs.consistency import audit
from queues.wiring import open_services
from schemas import Upload
from settings import Settings


def run_audit(settings: Settings, *, url: str, mend: bool) -> list[str]:
    """Return a line for each thing that does not belong, mended if asked to."""
    return asyncio.run(_run(settings, url=url, mend=mend))


async def _run(settings: Settings, *, url: str, mend: bool) -> list[str]:
    queue = JobQueue(
        url,
        job_timeout_seconds=settings.job_timeout_seconds,
        result_ttl_seconds=settings.result_ttl_seconds,
        ingestion_timeout_seconds=settings.ingestion_timeout_seconds,
    )
    use = open_services(settings)
    library = DocumentService(use.uploads, use.files, queue)
    again: list[Upload] = []
    lines: list[str] = []
    try:
        for finding in audit(use, reindex=again.append):
            lines.append(f"{finding.what}: {finding.remedy if mend else f'would be {finding.remedy}'}")
            if mend:
                finding.mend()
        for upload in again:
            await library.reindex(upload.upload_id, user_id=upload.user_id)
        if mend:
            lines += await _settle(library, use.uploads.unsettled(quiet_seconds=0))
    finally:
        await queue.close()
        use.close()
    return lines


async def _settle(library: DocumentService, waiting: list[Upload]) -> list[str]:
    """Give uploads whose job is lost another."""
    lines: list[str] = []
    for upload in waiting:
        try:
            settled = await library.settle(upload)
        except QueueUnavailable as error:
            return [*lines, f"jobs were not looked at: {error.detail}"]
        if settled != upload:
            lines.append(f"upload {upload.upload_id} was {upload.status} without a job: seen to")
    return lines
