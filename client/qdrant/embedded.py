"""Qdrant's engine inside this process, on a folder.

One process at a time may have the folder open: a second that only tries breaks the first one's writes. So
processes take turns (see `Turns`), and a lock is held before the engine is asked to open anything. The owner, the
worker that main.py starts, keeps the store open between operations and hands it over when another process waits;
everybody else opens it for one operation. Opening takes 50 to 160 ms at 1,000 to 20,000 chunks.

The engine's optimize() is not called: at 100,000 chunks it takes 187 s of CPU to bring a search of all of them from
28 to 13 ms of CPU, does nothing for one of ten uploads (5 ms), and up to 10,000 chunks for neither (4 ms).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import qdrant_edge as qdrant

from client.files.locks import FileLock, Turns
from client.qdrant.base import Searching
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import (
    COLLECTION_PREFIX,
    COMPLETE,
    DENSE_VECTOR,
    INDEX_FIELD,
    NAME_FIELD,
    PAGE_FIELD,
    SPARSE_VECTOR,
    SPARSE_VECTORS,
    UPLOAD_FIELD,
    USER_FIELD,
    DenseModel,
    collection_name,
    passage_of,
    payload_of,
)
from client.qdrant.queries import Hit, VectorQuery, gather, plan, sparse_vectors, weights_of
from errors import NothingIndexed, StoreInUse, StoreUnavailable
from observability import commands
from rag.ingest.chunking import indexed_text
from rag.search.fusion import SearchResults
from schemas import Chunk, SearchFilter

HANDOVER_SECONDS = 0.02
MAX_FACETS = 1_000_000

_PLAIN_INDEXES = (
    (UPLOAD_FIELD, qdrant.PayloadSchemaType.Keyword),
    (NAME_FIELD, qdrant.PayloadSchemaType.Keyword),
    (INDEX_FIELD, qdrant.PayloadSchemaType.Integer),
    (PAGE_FIELD, qdrant.PayloadSchemaType.Integer),
)


class EmbeddedStore(Searching):
    """Chunks in an embedded Qdrant. Safe for threads; a fork must make its own.

    `owner` claims the folder for the life of this object. Raises StoreInUse when another process has claimed it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str,
        dense: DenseModel | None,
        lexicon: Bm25Encoder,
        owner: bool = False,
        turn_timeout_seconds: float = 60.0,
    ) -> None:
        self.model = model
        self._folder = folder
        self._path = folder / collection_name(model)
        self._dense = dense
        self._lexicon = lexicon
        self._turn_timeout_seconds = turn_timeout_seconds
        folder.mkdir(parents=True, exist_ok=True)
        self._turns = Turns(folder)
        self._owner_lock = FileLock(folder / "owner.lock")
        self._state = threading.Condition()
        self._shard: qdrant.EdgeShard | None = None
        self._users = 0
        self._handing_over = False
        self._closed = threading.Event()
        self._keep_open = owner
        if owner:
            self._claim()
            threading.Thread(target=self._hand_over_when_wanted, name="qdrant-turns", daemon=True).start()

    def upsert(self, chunks: list[Chunk]) -> None:
        """Store chunks, replacing those with the same ids. On return they survive a crash."""
        if not chunks:
            return
        texts = [indexed_text(chunk) for chunk in chunks]
        vectors = self._dense.embed_documents(texts) if self._dense else [None] * len(texts)
        points = [self._point(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)]
        with self._open(create=_config(len(vectors[0]) if vectors[0] else None)) as shard:
            shard.update(qdrant.UpdateOperation.upsert_points(points))

    def missing(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return those of the chunks that are not stored exactly so."""
        try:
            with self._open() as shard:
                found = shard.retrieve([chunk.id for chunk in chunks], with_payload=True, with_vector=False)
        except NothingIndexed:
            return chunks
        stored = {str(record.id): record.payload for record in found}
        return [chunk for chunk in chunks if stored.get(chunk.id) != payload_of(chunk)]

    def find(self, question: str, vector: list[float] | None, chosen: SearchFilter, limit: int) -> SearchResults:
        """Find up to `limit` of the chosen chunks in each way. Raises NothingIndexed."""
        probes = plan(question, vector, self._lexicon, limit)
        only = _filter(chosen)
        with self._open() as shard:
            if not probes:
                return SearchResults()
            answers = shard.query_batch(qdrant.QueryBatchRequest([_request(probe, only) for probe in probes]))
        return gather(probes, [[_hit(point) for point in points] for points in answers])

    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return the chunks before and after each of these, in no order."""
        if not chunks:
            return []
        only = qdrant.Filter(should=[qdrant.Filter(must=_beside(chunk)) for chunk in chunks])
        with self._open() as shard:
            records, _ = shard.scroll(qdrant.ScrollRequest(limit=2 * len(chunks), filter=only, with_payload=True))
        return [passage_of(record.id, record.payload or {}, 0.0).chunk for record in records]

    def delete(self, upload_id: str, *, user_id: str, from_index: int = 0) -> None:
        """Remove an upload's chunks, those numbered `from_index` and above. Nothing stored is no error."""
        conditions = [
            *_conditions(SearchFilter(user_id=user_id, upload_ids=(upload_id,))),
            qdrant.FieldCondition(INDEX_FIELD, range=qdrant.RangeFloat(gte=float(from_index))),
        ]
        try:
            with self._open() as shard:
                shard.update(qdrant.UpdateOperation.delete_points_by_filter(qdrant.Filter(must=conditions)))
        except NothingIndexed:
            return

    def delete_everywhere(self, upload_id: str, *, user_id: str) -> None:
        """Remove an upload's chunks, also those of other embedding models."""
        self.delete(upload_id, user_id=user_id)
        for path in self._folder.glob(f"{COLLECTION_PREFIX}*"):
            if path != self._path and (path / COMPLETE).exists():
                model = path.name.removeprefix(COLLECTION_PREFIX)
                # It takes its turn as another process would.
                other = EmbeddedStore(self._folder, model=model, dense=None, lexicon=self._lexicon)
                other.delete(upload_id, user_id=user_id)

    def count(self, chosen: SearchFilter) -> int:
        """Count the chosen chunks; 0 when nothing was ever stored."""
        try:
            with self._open() as shard:
                return shard.count(qdrant.CountRequest(exact=True, filter=_filter(chosen)))
        except NothingIndexed:
            return 0

    def uploads(self) -> dict[tuple[str, str], int]:
        """Count the chunks of every upload of every user, as (user, upload)."""
        try:
            with self._open() as shard:
                return _count_uploads(shard)
        except NothingIndexed:
            return {}

    def close(self) -> None:
        """Write everything to disk and give the folder back."""
        self._closed.set()
        with self._state:
            self._close_shard()
        self._owner_lock.release()

    def _claim(self) -> None:
        if not self._owner_lock.try_acquire():
            raise StoreInUse(
                f"the embedded vector store in {self._folder} belongs to a running worker ({self._owner_lock.read()}). "
                "Embedded Qdrant takes one worker; for more, start a Qdrant server and set QDRANT_URL"
            )
        self._owner_lock.write(f"process {os.getpid()}")

    @contextmanager
    def _open(self, *, create: qdrant.EdgeConfig | None = None) -> Iterator[qdrant.EdgeShard]:
        """Hold the shard open for one operation; `create` is how to make it when there is none yet.

        Raises:
            NothingIndexed: there is none, and it is not to be made.
            StoreUnavailable: no turn came in time, or the engine could not open the folder.

        """
        with self._state:
            self._state.wait_for(lambda: not self._handing_over)
            if self._shard is None:
                self._shard = self._open_shard(create)
            self._users += 1
            shard = self._shard
        try:
            yield shard
        finally:
            with self._state:
                self._users -= 1
                if not self._keep_open and not self._users:
                    self._close_shard()
                self._state.notify_all()

    def _open_shard(self, create: qdrant.EdgeConfig | None) -> qdrant.EdgeShard:
        if not self._turns.acquire(self._turn_timeout_seconds):
            raise StoreUnavailable(
                f"the embedded vector store in {self._folder} was busy for {self._turn_timeout_seconds:.0f} s; "
                "try again, or start a Qdrant server and set QDRANT_URL"
            )
        try:
            if self._exists():
                return qdrant.EdgeShard.load(str(self._path))
            if create is None:
                raise NothingIndexed(f"nothing is indexed yet: run `{commands.script('index.py')} PATH`")
            return self._create(create)
        except BaseException:
            self._turns.release()
            raise

    def _exists(self) -> bool:
        return (self._path / COMPLETE).exists()

    def _create(self, config: qdrant.EdgeConfig) -> qdrant.EdgeShard:
        """Make the shard. The marker comes last, so that a crash half-way is made anew instead of half-read."""
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(parents=True)
        shard = qdrant.EdgeShard.create(str(self._path), config)
        for field, schema in ((USER_FIELD, qdrant.KeywordIndexParams(is_tenant=True)), *_PLAIN_INDEXES):
            shard.update(qdrant.UpdateOperation.create_field_index(field, schema))
        shard.flush()
        (self._path / COMPLETE).touch()
        return shard

    def _close_shard(self) -> None:
        """Close the shard, if open, and end the turn. Call with the state held and no users."""
        if self._shard is not None:
            shard, self._shard = self._shard, None
            shard.flush()
            shard.close()
            self._turns.release()

    def _hand_over_when_wanted(self) -> None:
        while not self._closed.wait(HANDOVER_SECONDS):
            if self._shard is None or not self._turns.wanted():
                continue
            with self._state:
                self._handing_over = True
                self._state.wait_for(lambda: not self._users)
                self._close_shard()
                self._handing_over = False
                self._state.notify_all()

    def _point(self, chunk: Chunk, dense: list[float] | None) -> qdrant.Point:
        vectors: dict[str, qdrant.NamedVector] = dict(sparse_vectors(chunk, self._lexicon))
        if dense is not None:
            vectors[DENSE_VECTOR] = dense
        return qdrant.Point(chunk.id, vectors, payload_of(chunk))


def _count_uploads(shard: qdrant.EdgeShard) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    users = shard.facet(qdrant.FacetRequest(USER_FIELD, limit=MAX_FACETS, exact=True))
    for user in users.hits:
        mine = _filter(SearchFilter(user_id=str(user.value)))
        uploads = shard.facet(qdrant.FacetRequest(UPLOAD_FIELD, limit=MAX_FACETS, exact=True, filter=mine))
        counts |= {(str(user.value), str(upload.value)): upload.count for upload in uploads.hits}
    return counts


def _config(dimensions: int | None) -> qdrant.EdgeConfig:
    sparse = {name: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf) for name in SPARSE_VECTORS}
    if dimensions is None:
        return qdrant.EdgeConfig(sparse_vectors=sparse)
    dense = {DENSE_VECTOR: qdrant.EdgeVectorParams(size=dimensions, distance=qdrant.Distance.Cosine)}
    return qdrant.EdgeConfig(vectors=dense, sparse_vectors=sparse)


def _request(probe: VectorQuery, only: qdrant.Filter) -> qdrant.QueryRequest:
    vector = qdrant.SparseVector(*probe.vector) if isinstance(probe.vector, tuple) else probe.vector
    return qdrant.QueryRequest(
        limit=probe.limit,
        query=qdrant.Query.Nearest(vector, using=probe.using),
        filter=only,
        with_payload=not probe.with_vector,
        with_vector=[probe.using] if probe.with_vector else False,
    )


def _hit(point: qdrant.ScoredPoint) -> Hit:
    vector = point.vector[SPARSE_VECTOR] if isinstance(point.vector, dict) and SPARSE_VECTOR in point.vector else None
    weights = weights_of(vector) if isinstance(vector, qdrant.SparseVector) else {}
    return Hit(str(point.id), point.score, point.payload or {}, weights)


def _beside(chunk: Chunk) -> list[qdrant.ConditionType]:
    places = qdrant.MatchAny([chunk.index - 1, chunk.index + 1])
    chosen = SearchFilter(user_id=chunk.user_id, upload_ids=(chunk.upload_id,))
    return [*_conditions(chosen), qdrant.FieldCondition(INDEX_FIELD, match=places)]


def _conditions(chosen: SearchFilter) -> list[qdrant.ConditionType]:
    conditions: list[qdrant.ConditionType] = []
    if chosen.user_id is not None:
        conditions.append(qdrant.FieldCondition(USER_FIELD, match=qdrant.MatchValue(chosen.user_id)))
    if chosen.upload_ids is not None:
        conditions.append(qdrant.FieldCondition(UPLOAD_FIELD, match=qdrant.MatchAny(list(chosen.upload_ids))))
    if chosen.names is not None:
        conditions.append(qdrant.FieldCondition(NAME_FIELD, match=qdrant.MatchAny(list(chosen.names))))
    if chosen.first_page is not None or chosen.last_page is not None:
        pages = qdrant.RangeFloat(gte=chosen.first_page, lte=chosen.last_page)
        conditions.append(qdrant.FieldCondition(PAGE_FIELD, range=pages))
    return conditions


def _filter(chosen: SearchFilter) -> qdrant.Filter:
    hidden = qdrant.FieldCondition(UPLOAD_FIELD, match=qdrant.MatchAny(list(chosen.hidden))) if chosen.hidden else None
    return qdrant.Filter(must=_conditions(chosen), must_not=[hidden] if hidden else None)
