"""`python main.py audit`: print the inconsistencies between the stores, and repair them."""

from __future__ import annotations

import asyncio

from client.rq_client import JobQueue
from documents.service import DocumentService
from errors import QueueUnavailable
from queues.jobs.consistency import check_consistency
from queues.wiring import open_services
from schemas import Upload
from settings import Settings


def run_audit(settings: Settings, *, url: str, repair: bool) -> list[str]:
    """Return a line for each inconsistency; with `repair`, repair each."""
    return asyncio.run(_run(settings, url=url, repair=repair))


async def _run(settings: Settings, *, url: str, repair: bool) -> list[str]:
    queue = JobQueue(
        url,
        job_timeout_seconds=settings.job_timeout_seconds,
        result_ttl_seconds=settings.result_ttl_seconds,
        ingestion_timeout_seconds=settings.ingestion_timeout_seconds,
    )
    services = open_services(settings)
    documents = DocumentService(services.uploads, services.files, queue)
    to_reindex: list[Upload] = []
    lines: list[str] = []
    try:
        for found in check_consistency(services, reindex=to_reindex.append):
            lines.append(f"{found.description}: {found.outcome if repair else f'would be {found.outcome}'}")
            if repair:
                found.repair()
        for upload in to_reindex:
            await documents.reindex(upload.upload_id, user_id=upload.user_id)
        if repair:
            lines += await _settle(documents, services.uploads.unfinished(unchanged_seconds=0))
    finally:
        await queue.close()
        services.close()
    return lines


async def _settle(documents: DocumentService, uploads: list[Upload]) -> list[str]:
    """Submit another job for each upload whose job is lost. Returns a line for each."""
    lines: list[str] = []
    for upload in uploads:
        try:
            settled = await documents.reconcile(upload)
        except QueueUnavailable as error:
            return [*lines, f"jobs were not looked at: {error.detail}"]
        if settled != upload:
            lines.append(f"upload {upload.upload_id} was {upload.status} without a job: seen to")
    return lines
