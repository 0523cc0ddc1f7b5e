"""`python main.py audit`: print the inconsistencies between the stores, and repair them."""

from __future__ import annotations

import asyncio

from redis import Redis

from client.rq_client import JobQueue
from documents.service import DocumentService
from errors import QueueUnavailable
from queues.jobs.consistency import check_consistency
from queues.wiring import establish_deployment, open_services
from schemas import Upload
from settings import Settings

TIMEOUT_SECONDS = 5.0


def run_audit(settings: Settings, *, url: str, repair: bool, delete: bool) -> list[str]:
    """Return a line for each inconsistency. `repair` mends those whose repair deletes nothing, `delete` the others."""
    return asyncio.run(_run(settings, url=url, repair=repair, delete=delete))


async def _run(settings: Settings, *, url: str, repair: bool, delete: bool) -> list[str]:
    queue = JobQueue.from_settings(settings, url)
    services = open_services(settings)
    documents = DocumentService(services.uploads, services.files, queue)
    with Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS) as valkey:
        await asyncio.to_thread(establish_deployment, services, valkey)
    to_reindex: list[Upload] = []
    lines: list[str] = []
    try:
        for inconsistency in check_consistency(services, reindex=to_reindex.append):
            wanted = delete if inconsistency.deletes else repair
            would = "" if wanted else "would be "
            how = " with --repair" if inconsistency.deletes and not wanted else ""
            lines.append(f"{inconsistency.description}: {would}{inconsistency.outcome}{how}")
            if wanted:
                inconsistency.repair()
        for upload in to_reindex:
            await documents.reindex(upload.upload_id, user_id=upload.user_id)
        if repair:
            lines += await _reconcile(documents, services.uploads.unfinished(unchanged_seconds=0))
    finally:
        await queue.close()
        services.close()
    return lines


async def _reconcile(documents: DocumentService, uploads: list[Upload]) -> list[str]:
    """Reconcile unfinished uploads with their jobs. Returns a line for each upload that changed or got a job."""
    lines: list[str] = []
    for upload in uploads:
        try:
            reconciled = await documents.reconcile(upload)
        except QueueUnavailable as error:
            return [*lines, f"jobs were not checked: {error.detail}"]
        if reconciled.submitted:
            lines.append(f"upload {upload.upload_id} was {upload.status} without a job: its job is queued again")
        elif reconciled.upload != upload:
            lines.append(f"upload {upload.upload_id} was {upload.status} without a job: reconciled")
    return lines
