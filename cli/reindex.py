"""`python main.py reindex`: build the index that the settings ask for, of all documents; or index one upload again."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import closing

from redis import Redis
from tqdm import tqdm

from client.rq_client import JobQueue
from client.sql.index_versions import IndexVersion, VersionState
from client.valkey import embedded as embedded_valkey
from documents.index_versions import wanted_model
from documents.service import DocumentService
from observability.wording import counted
from queues.jobs import building
from queues.wiring import Services, open_services
from rag.ingest.chunking import CHUNKING_VERSION
from schemas import Progress
from settings import Settings

TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.5


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Run the command. Returns 1 if the index cannot be built."""
    url = embedded_valkey.running_url(settings)
    with closing(open_services(settings, owner=url is None and settings.qdrant_url is None)) as services:
        if options.upload_id is not None:
            return _index_upload(services, embedded_valkey.require_url(settings), options.upload_id)
        print(_state(services, again=options.all))
        if options.dry_run:
            return 0
        version = building.begin_build(services, again=options.all)
        if version is None:
            return 0
        if url is None:
            return _build_here(services, version)
        with Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS) as valkey:
            building.start_steps(services, valkey)
        if options.wait:
            return _follow(services, version)
        print("the workers build it; GET /ready and `main.py reindex --dry-run` show how far they are")
        return 0


def _index_upload(services: Services, url: str, upload_id: str) -> int:
    async def submit() -> str | None:
        queue = JobQueue.from_settings(services.index.settings, url)
        try:
            documents = DocumentService(services.uploads, services.files, queue)
            return (await documents.reindex(upload_id, user_id=None)).job_id
        finally:
            await queue.close()

    print(f"upload {upload_id} is indexed again by job {asyncio.run(submit())}")
    return 0


def _state(services: Services, *, again: bool) -> str:
    """Return lines about what is searched, what is built, and what the command would begin."""
    settings, versions = services.index.settings, services.index.versions
    searched, under_way = services.index.searched().version, versions.under_way()
    uploads, chunks = versions.size()
    lines = [f"searched: {_name(searched)}, {counted(uploads, 'document')}, {counted(chunks, 'chunk')}"]
    if under_way is not None:
        progress = versions.progress(under_way)
        lines.append(f"{under_way.state}: {_name(under_way)}, {progress.done} of {counted(progress.total, 'document')}")
        lines += [under_way.error] if under_way.error else []
        lines += [f"  {name} ({upload_id}): {error}" for upload_id, (name, error) in progress.errors.items()]
    model = wanted_model(settings)
    if again or (searched.model, searched.chunking) != (model, CHUNKING_VERSION):
        cost = building.describe_cost(model, chunks)
        lines.append(f"to build: {model}, chunking {CHUNKING_VERSION}, {cost}")
    elif under_way is None:
        lines.append("nothing to build: the index is the one that the settings ask for; --all builds it again")
    return "\n".join(lines)


def _name(version: IndexVersion) -> str:
    dimensions = "" if version.dimensions is None else f" of {version.dimensions} numbers"
    return f"{version.model}{dimensions}, chunking {version.chunking}"


def _build_here(services: Services, version: IndexVersion) -> int:
    """Build in this process: no service runs."""
    with tqdm(desc="building the index", unit=" documents", file=sys.stderr) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total
            bar.update((progress.done or 0) - bar.n)

        building.build_here(services, show)
    return _outcome(services, version)


def _follow(services: Services, version: IndexVersion) -> int:
    """Show the progress of the workers until the build has ended."""
    with tqdm(desc="building the index", unit=" documents", file=sys.stderr) as bar:
        while (now := services.index.versions.under_way()) is not None and now.state is VersionState.BUILDING:
            progress = services.index.versions.progress(now)
            bar.total = progress.total
            bar.update(progress.done - bar.n)
            time.sleep(POLL_SECONDS)
    return _outcome(services, version)


def _outcome(services: Services, version: IndexVersion) -> int:
    searched = services.index.versions.searched()
    if searched is not None and searched.version_id == version.version_id:
        print(f"searched: {_name(searched)}")
        return 0
    now = services.index.versions.under_way()
    reason = now.error if now is not None and now.error else "another index was asked for meanwhile"
    print(f"the new index is not used: {reason}", file=sys.stderr)
    return 1
