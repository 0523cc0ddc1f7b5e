"""`python main.py restore FROM`: put a backup in place of what a deployment has.

While a restore runs, and after one that was cut short, Valkey says so in place of the id of the deployment, and no API
and no worker starts.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from redis import Redis
from redis.exceptions import RedisError

from cli.audit import reconcile_uploads
from cli.backup import TIMEOUT_SECONDS, unanswered
from cli.backup_copy import FORMAT
from client.files.archive import COPY_BYTES, BackupReader
from client.qdrant import transfer as points
from client.rq_client import JobQueue
from client.sql import transfer as tables
from client.sql.database import Database
from client.valkey import embedded, keys
from client.valkey import transfer as valkey_transfer
from client.valkey.deployment import RESTORING, begin_restore, end_restore, read_deployment
from documents.deployment import MARKER
from documents.service import DocumentService
from errors import BackupError
from observability.wording import counted
from queues.wiring import Services, establish_deployment, open_services
from settings import Settings


@dataclass(frozen=True, slots=True)
class _Target:
    """The stores that a backup is put into."""

    services: Services
    database: Database
    valkey: Redis


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Restore a backup, and print what was restored. Raises BackupError, and what the stores raise."""
    started = time.monotonic()
    reader = BackupReader(options.source)
    reader.verify()
    if reader.manifest.get("format") != FORMAT:
        raise BackupError(f"{options.source} was written by a newer version of this program: install that version")
    try:
        with (
            embedded.serving(settings, alone=True) as url,
            Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS) as valkey,
            closing(Database(settings)) as database,
            closing(open_services(settings, owner=settings.qdrant_url is None)) as services,
        ):
            target = _Target(services, database, valkey)
            _require_free(target, force=options.force)
            _clear(target)
            _fill(target, reader)
            lines = asyncio.run(_give_jobs(settings, url, services))
    except RedisError as error:
        raise unanswered(settings, error) from None
    print("\n".join([*lines, f"restored {_described(reader)} in {time.monotonic() - started:.1f} s"]))
    return 0


def _require_free(target: _Target, *, force: bool) -> None:
    """Raise BackupError if the target is in use, or holds anything that the restore would replace unasked."""
    workers = valkey_transfer.live_workers(target.valkey)
    if workers and not force:
        raise BackupError(
            f"{counted(workers, 'worker')} of this Valkey run: stop all workers and APIs first; --force restores anyway"
        )
    cut_short = read_deployment(target.valkey) == RESTORING
    if force or cut_short:
        return
    holders = {
        "the database": tables.has_rows(target.database),
        "Valkey": valkey_transfer.has_jobs(target.valkey),
        "the vector store": bool(target.services.index.collections.names()),
        "the file store": any(_is_ours(name) for name, _ in target.services.files.all()),
    }
    full = [name for name, filled in holders.items() if filled]
    if full:
        raise BackupError(f"{', '.join(full)} hold data already: --force replaces all of it by the backup")


def _clear(target: _Target) -> None:
    """Remove all that the target has, after a note that a restore is under way."""
    begin_restore(target.valkey)
    tables.clear_tables(target.database)
    valkey_transfer.clear_keys(target.valkey, keep=[keys.DEPLOYMENT])
    target.services.index.collections.clear()
    for name in [name for name, _ in target.services.files.all() if _is_ours(name) or name == MARKER]:
        target.services.files.delete(name)


def _fill(target: _Target, reader: BackupReader) -> None:
    """Write all of a backup: the rows last, in one transaction, and then the id of the deployment."""
    files = set(reader.manifest["files"])
    for name, content in reader.members(""):
        kind, _, rest = name.partition("/")
        if kind == "files" and rest in files:
            target.services.files.put(rest, _chunks(content))
        elif kind == "points":
            _write_points(target.services, rest, content.read().splitlines(), reader.manifest["uploads"])
        elif kind == "valkey":
            records = (valkey_transfer.KeyRecord.from_json(line) for line in content.read().splitlines())
            wanted = (record for record in records if record.name != keys.DEPLOYMENT.encode())
            valkey_transfer.write_keys(target.valkey, wanted)
    rows = ((name.rpartition("/")[2], lines) for name, lines in reader.lines("sql/"))
    tables.replace_tables(target.database, revision=reader.manifest["revision"], tables=rows)
    end_restore(target.valkey, reader.manifest["deployment"])
    establish_deployment(target.services, target.valkey)


def _write_points(services: Services, name: str, lines: Iterable[bytes], uploads: dict[str, Any]) -> None:
    """Store the points of a member, but not those that a later round copied again, or of uploads that are gone."""
    round_, collection, _number = name.split("/")
    wanted = [
        point
        for point in map(points.from_json, lines)
        if [points.upload_of(point)[0], int(round_)] == uploads.get(points.upload_of(point)[1])
    ]
    if wanted:
        points.write_points(services.index.collections.engine(collection), wanted)


async def _give_jobs(settings: Settings, url: str, services: Services) -> list[str]:
    """Queue the job of each unfinished upload whose job is not in the backup. Returns a line for each."""
    queue = JobQueue.from_settings(settings, url)
    try:
        documents = DocumentService(services.uploads, services.files, queue)
        return await reconcile_uploads(documents, services.uploads.unfinished(unchanged_seconds=0))
    finally:
        await queue.close()


def _chunks(content: BinaryIO) -> Iterator[bytes]:
    while chunk := content.read(COPY_BYTES):
        yield chunk


def _is_ours(name: str) -> bool:
    """Return True for the id of an uploaded file: other files may share the place."""
    try:
        uuid.UUID(Path(name).stem)
    except ValueError:
        return False
    return True


def _described(reader: BackupReader) -> str:
    counts, manifest = reader.manifest["counts"], reader.manifest
    parts = [counted(counts["uploads"], "upload"), counted(counts["files"], "file"), counted(counts["points"], "chunk")]
    parts += [counted(counts["rows"], "row"), counted(counts["keys"], "key") + " of Valkey"]
    return f"{', '.join(parts)}, as they were at {manifest['taken_at']} in version {manifest['version']},"
