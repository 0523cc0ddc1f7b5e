"""`python main.py backup TO`: copy jobs, rows, vectors and files of a deployment, also while the service runs."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from cli.backup_copy import BackupCopy
from client.files.archive import writing
from client.sql.database import Database
from client.valkey import embedded
from errors import QueueUnavailable
from observability.wording import counted
from queues.wiring import open_services
from settings import Settings, without_password

# The state of long queues is read in one step, which takes longer than other calls.
TIMEOUT_SECONDS = 60.0


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Write the backup, and print what is in it. Raises BackupError, and what the stores raise."""
    target: Path = options.to.absolute()
    started = time.monotonic()
    try:
        with (
            writing(target) as writer,
            embedded.serving(settings) as url,
            Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS) as valkey,
            closing(Database(settings)) as database,
            closing(open_services(settings)) as services,
        ):
            copy = BackupCopy(services, database, valkey, writer, target.with_name(f"{target.name}.points"))
            manifest = copy.run()
            writer.finish(manifest)
    except RedisError as error:
        raise unanswered(settings, error) from None
    for warning in copy.warnings:
        print(f"warning: {warning}")
    counts = manifest["counts"]
    parts = ", ".join(
        (
            counted(counts["uploads"], "upload"),
            counted(counts["files"], "file"),
            counted(counts["points"], "chunk"),
            counted(counts["rows"], "row"),
            counted(counts["keys"], "key") + " of Valkey",
        )
    )
    print(f"{target}: {parts}; {writer.bytes / 1024**2:.1f} MiB in {time.monotonic() - started:.1f} s")
    return 0


def unanswered(settings: Settings, error: RedisError) -> QueueUnavailable:
    """Return what to say when Valkey does not answer, or refuses a command."""
    url = without_password(settings.queue_url)
    return QueueUnavailable(
        f"{url} did not do what a backup needs ({type(error).__name__}): check that it runs, and that its user has the "
        "rights of deploy/valkey/users.acl"
    )
