"""`python main.py audit`: print the inconsistencies between the stores, and repair them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from redis import Redis

from client.rq_client import JobQueue
from documents.service import DocumentService
from errors import NothingIndexed, QueueUnavailable, StoreDamaged
from queues.jobs.consistency import check_consistency, lost_with_the_store
from queues.wiring import Services, establish_deployment, open_services
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
    to_reindex: list[Upload] = []
    lines: list[str] = []
    try:
        with Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS) as valkey:
            lines += await asyncio.to_thread(_check_store, services, valkey, set_aside=delete)
        if lines:
            to_reindex += lost_with_the_store(services)
            lines += [f"upload {upload.upload_id} had failed: indexed again" for upload in to_reindex]
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
            lines += await reconcile_uploads(documents, services.uploads.unfinished(unchanged_seconds=0))
    finally:
        await queue.close()
        services.close()
    return lines


def _check_store(services: Services, valkey: Redis, *, set_aside: bool) -> list[str]:
    """Check that the stores belong together and that the vector store can be read.

    With `set_aside` a damaged store is set aside, which the returned line says; then the uploads have no points.
    Raises StoreDamaged.
    """
    try:
        establish_deployment(services, valkey)
        with suppress(NothingIndexed):
            services.store.engine.check()
    except StoreDamaged:
        if not set_aside:
            raise
    else:
        return []
    place = services.store.engine.set_aside()
    establish_deployment(services, valkey)
    return [f"the embedded vector store was damaged: set aside as {place}"]


async def reconcile_uploads(documents: DocumentService, uploads: list[Upload]) -> list[str]:
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
