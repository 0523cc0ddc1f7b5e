"""Which version of the index there is to search, and which one is to be built.

A version is named by its embedding model and its chunking. The settings name the version that is wanted: when another
one is searched, the wanted one is built beside it.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator

from client.qdrant.base import Collections
from client.qdrant.points import COLLECTION_PREFIX, UPLOAD_FIELD, USER_FIELD, collection_name
from client.rq.ids import new_id
from client.sql.index_versions import IndexVersion, IndexVersionRepository, VersionState
from client.sql.uploads import UploadRepository
from errors import NothingIndexed
from observability.wording import counted
from rag.ingest.chunking import CHUNKING_VERSION, chunk_id
from schemas import UploadStatus
from settings import LEXICAL_MODEL, LOCAL_MODEL, Settings

log = logging.getLogger("rq.worker")

# What stands for one `_` of a collection's name, in the model names of providers.
_REPLACED = "_/: @"
MAX_NAMES = 10_000
# A collection's name has the model, the chunking if it is not the first, and a number if the version was built again.
_NAME = re.compile(rf"^{COLLECTION_PREFIX}(?P<model>[^~]*)(?:~c(?P<chunking>\d+))?(?:~\d+)?$")


def wanted_model(settings: Settings) -> str:
    """Return the embedding model of the version that the settings ask for."""
    return settings.dense_model or LEXICAL_MODEL


def ensure_searched(
    settings: Settings, versions: IndexVersionRepository, uploads: UploadRepository, collections: Collections
) -> IndexVersion:
    """Return the version that is searched. Raises StoreUnavailable.

    The first call of a deployment makes one. Uploads of an earlier release are in the collection of the model that they
    were indexed with: the collection with most of them is searched, and the others are indexed again.
    """
    searched = versions.searched()
    if searched is not None:
        return searched
    wanted = wanted_model(settings)
    owners = {
        upload.upload_id: upload.user_id
        for upload in uploads.all()
        if upload.indexed_at is not None and upload.status is not UploadStatus.DELETING
    }
    name, present = collection_name(wanted, CHUNKING_VERSION), set[str]()
    for candidate in collections.names() if owners else ():
        stored = _uploads_in(candidate, collections)
        found = {upload_id for upload_id, user_id in owners.items() if (user_id, upload_id) in stored}
        if len(found) > len(present) or (candidate == name and len(found) == len(present)):
            name, present = candidate, found
    model, chunking = wanted, CHUNKING_VERSION
    if name != collection_name(wanted, CHUNKING_VERSION):
        model, chunking = _model_of(name, present, collections), int(_NAME.sub(r"\g<chunking>", name) or 1)
    missing = [(upload_id, new_id()) for upload_id in sorted(owners.keys() - present)]
    if missing:
        log.warning("%s are in no index, and are indexed again", counted(len(missing), "document"))
    versions.add_first(model=model, chunking=chunking, collection=name, missing=missing)
    return versions.searched() or ensure_searched(settings, versions, uploads, collections)


def request_build(
    settings: Settings, versions: IndexVersionRepository, searched: IndexVersion, *, again: bool = False
) -> IndexVersion | None:
    """Have the version built that the settings ask for; return it, or None if it is searched already.

    A build of another version is given up, and a failed build goes on. `again` builds a version in any case.
    """
    model, chunking = wanted_model(settings), CHUNKING_VERSION
    under_way = versions.under_way()
    if under_way is not None and (under_way.model, under_way.chunking) == (model, chunking):
        if under_way.state is VersionState.FAILED:
            versions.resume(under_way)
        return versions.under_way()
    if (searched.model, searched.chunking) == (model, chunking) and not again:
        given_up = versions.give_up()
        if given_up is not None:
            log.warning("the build of an index for EMBEDDING_MODEL=%s is given up", given_up.model)
        return None
    return versions.begin(model=model, chunking=chunking, collection=collection_name(model, chunking), again=again)


def needs_provider(version: IndexVersion) -> bool:
    """Return True if a model provider embeds the texts of a version."""
    return version.model not in {LEXICAL_MODEL, LOCAL_MODEL}


def _uploads_in(name: str, collections: Collections) -> dict[tuple[str, str], int]:
    try:
        return collections.engine(name).count_by(USER_FIELD, UPLOAD_FIELD)
    except NothingIndexed:
        return {}


def _model_of(name: str, uploads: set[str], collections: Collections) -> str:
    """Return the model of a collection of an earlier release. The ids of its points are made with the model's name."""
    written = _NAME.sub(r"\g<model>", name)
    for model in itertools.islice(_possible_models(written), MAX_NAMES):
        ids = [chunk_id(upload_id, 0, model) for upload_id in sorted(uploads)[:1]]
        if ids and collections.engine(name).payloads(ids):
            return model
    return written


def _possible_models(name: str) -> Iterator[str]:
    """Yield the names of models whose collection has this name, the likeliest first."""
    parts = name.split("_")
    for marks in itertools.product(_REPLACED, repeat=len(parts) - 1):
        yield "".join(part + mark for part, mark in zip(parts, [*marks, ""], strict=True))
