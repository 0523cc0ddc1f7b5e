"""The id of a deployment, kept in SQL, Valkey, the vector store and the file store: nobody works on another's data.

A process with another DATABASE_URL or DATA_DIR than the rest finds none of the documents in the list of uploads. It
would answer that no document mentions them, end uploads as deleted, and, as `main.py audit`, remove points and files.
"""

from __future__ import annotations

import uuid
from contextlib import suppress

from redis import Redis

from client.files.store import FileStore
from client.qdrant.store import VectorStore
from client.sql.deployment import DeploymentRepository
from client.sql.uploads import UploadRepository
from client.valkey.deployment import RESTORING, read_deployment, write_deployment
from errors import FileMissing, FilesUnavailable, SettingsError, StoreUnavailable
from observability import commands

VALKEY = "Valkey"
QDRANT = "the vector store"
FILES = "the file store"
# The name of the file that holds the id.
MARKER = "deployment"
_ADVICE = (
    "every machine needs the same QDRANT_URL, VALKEY_URL, DATABASE_URL and FILE_STORE_URL, or the same DATA_DIR in "
    "place of the last two; another deployment needs its own Valkey, Qdrant and "
    "file store"
)


def establish(
    deployment: DeploymentRepository,
    uploads: UploadRepository,
    valkey: Redis | None,
    store: VectorStore,
    files: FileStore,
) -> None:
    """Check that SQL, Valkey and both stores belong together, and give an id to those that have none yet.

    A database without an id takes part in a deployment only if it knows the points that are stored: else it may be the
    empty one of another DATA_DIR. A store that is away is checked when it is written to. `valkey` is None for a program
    that uses none.

    Raises:
        SettingsError: they belong to different deployments.
        UploadsUnavailable, RedisError, StoreError: they cannot be asked.

    """
    if valkey is not None:
        require_own_queue(deployment, uploads, valkey)
    own_id = deployment.read()
    if own_id is None:
        own_id = deployment.write(_adoptable_id(uploads, valkey, store))
    with suppress(StoreUnavailable):
        store_id = store.engine.deployment()
        if store_id not in {None, own_id} or (store_id is None and not _knows_points(store, uploads, if_none=True)):
            raise foreign(QDRANT)
    with suppress(FilesUnavailable):
        _claim_files(files, own_id)
    if valkey is not None and write_deployment(valkey, own_id) != own_id:
        raise foreign(VALKEY)
    with suppress(StoreUnavailable):
        store.engine.claim(own_id)


def _adoptable_id(uploads: UploadRepository, valkey: Redis | None, store: VectorStore) -> str:
    """Return the id for a database that has none: the one of the rest if there is one. Raises as `establish` does."""
    queue_id = None if valkey is None else read_deployment(valkey)
    found = store.engine.deployment() or queue_id
    if not _knows_points(store, uploads, if_none=found is None):
        raise foreign(QDRANT if queue_id is None else VALKEY)
    return found or str(uuid.uuid4())


def require_own_queue(deployment: DeploymentRepository, uploads: UploadRepository, valkey: Redis) -> None:
    """Check that SQL and Valkey belong together, for processes that do not ask the vector store.

    Raises:
        SettingsError: they belong to different deployments.
        UploadsUnavailable, RedisError: they cannot be asked.

    """
    require_own_queue_id(read_deployment(valkey), deployment, uploads)


def require_own_queue_id(queue_id: str | None, deployment: DeploymentRepository, uploads: UploadRepository) -> None:
    """As `require_own_queue`, for the id that Valkey has; it was read before SQL is asked."""
    if queue_id is None:
        return
    if queue_id == RESTORING:
        raise SettingsError(
            "a backup is being restored, or its restore was cut short: run "
            f"`{commands.script('main.py')} restore BACKUP` to its end, then start again"
        )
    own_id = deployment.read()
    # A database without an id is that of a restored backup, if it has uploads. A worker sees whether they match.
    if own_id != queue_id and (own_id is not None or next(uploads.all(), None) is None):
        raise foreign(VALKEY)


def _claim_files(files: FileStore, own_id: str) -> None:
    """Write the id into the file store, unless it has one. Raises SettingsError, FilesUnavailable."""
    try:
        if b"".join(files.read(MARKER)) != own_id.encode():
            raise foreign(FILES)
    except FileMissing:
        files.put(MARKER, [own_id.encode()])


def foreign(place: str) -> SettingsError:
    """Return the error for a part that belongs to another deployment."""
    return SettingsError(f"{place} belongs to another deployment than the database of uploads: {_ADVICE}")


def _knows_points(store: VectorStore, uploads: UploadRepository, *, if_none: bool) -> bool:
    """Return True if the list of uploads knows most of the uploads whose points are stored; `if_none` without points.

    Not all: a crash or a restored backup leaves points of uploads that are gone. Not any: `index.py` gives the same
    upload id to the same path on two machines.
    """
    stored = {upload_id for _, upload_id in store.count_by_upload()}
    known = {upload.upload_id for upload in uploads.all()} if stored else set()
    return 2 * len(stored & known) >= len(stored) if stored else if_none
