"""One contract for both engines: Qdrant's engine in this process, and a server through langchain-qdrant.

The server engine runs on qdrant-client's local mode, and in `make test-server` also on a real server.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from client.qdrant.base import Collections
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import EmbeddedCollections, EmbeddedEngine, embedded_store
from client.qdrant.points import collection_name
from client.qdrant.server import ServerCollections, server_store
from client.qdrant.store import VectorStore
from errors import NothingIndexed, StoreInUse, StoreUnavailable
from rag.ingest.chunking import chunk_pages
from rag.search.fusion import CANDIDATES, fuse
from schemas import Chunk, Document, Page, Passage, SearchFilter
from tests.support.openai_stub import embedding
from tests.support.processes import PYTHON, ROOT, environment, wait_until
from tests.support.real_qdrant import ENGINES, client_of

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")

MINE = SearchFilter(user_id="local")
TEXTS = [
    "The lighthouse was built in 1887 by the engineer Tamsin Vale.",
    "Its lamp turns once in twelve seconds.",
    "The keeper's cottage is a museum. Admission to the museum costs four crowns.",
    "Boats leave the harbour at nine and at noon.",
]


class WordEmbeddings:
    """Embeddings of word counts, without a server."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embedding(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embedding(text)


OpenStore = Callable[[], VectorStore]


@pytest.fixture(params=[(engine, hybrid) for engine in ENGINES for hybrid in (False, True)], ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    """A store of each engine, with and without dense vectors."""
    engine, hybrid = request.param
    model = f"test-{uuid.uuid4().hex}"
    dense = WordEmbeddings() if hybrid else None
    opened: VectorStore
    if engine == "embedded":
        opened = embedded_store(tmp_path / "qdrant", model=model, dense=dense, bm25=Bm25Encoder())
    else:
        opened = server_store(client_of(engine), model=model, dense=dense, bm25=Bm25Encoder())
    yield opened
    opened.close()


def chunks(upload: str = "u1", texts: list[str] = TEXTS, user: str = "local", model: str = "m") -> list[Chunk]:
    document = Document(upload_id=upload, path="/a.pdf", name="a.pdf", user_id=user)
    pages = [Page(number=n, label=f"p{n}", text=text) for n, text in enumerate(texts, start=1)]
    return list(chunk_pages(document, pages, model=model))


def search(store: VectorStore, question: str, search_filter: SearchFilter, k: int) -> list[Passage]:
    """Return the `k` chunks that fit a question best."""
    [results] = store.search(question, store.embed(question), [search_filter], max(CANDIDATES, k))
    return fuse(question, results, Bm25Encoder().terms)[:k]


class TestContract:
    def test_a_search_finds_what_was_stored_best_first(self, store: VectorStore) -> None:
        stored = chunks()
        store.upsert(stored)
        found = search(store, "What does admission to the museum cost?", MINE, 3)
        assert found[0].chunk.model_dump() == stored[2].model_dump()
        assert [passage.score for passage in found] == sorted((p.score for p in found), reverse=True)

    def test_a_search_before_indexing_names_the_command_to_run(self, store: VectorStore) -> None:
        with pytest.raises(NothingIndexed, match=r"index\.py"):
            search(store, "museum", MINE, 3)
        assert store.count(MINE) == 0
        store.delete("u1", user_id="local")

    def test_storing_again_overwrites(self, store: VectorStore) -> None:
        store.upsert(chunks())
        store.upsert(chunks())
        assert store.count(MINE) == len(TEXTS)

    def test_a_search_shows_what_is_stored_now(self, store: VectorStore) -> None:
        store.upsert(chunks(model=store.model))
        search(store, "museum", MINE, 3)
        changed = [text.replace("four crowns", "six crowns") for text in TEXTS]
        store.upsert(chunks(texts=changed, model=store.model))
        found = search(store, "What does admission to the museum cost?", MINE, 3)
        assert found[0].chunk.text == changed[2]
        before = store.neighbours([found[0].chunk])
        store.delete("u1", user_id="local", from_index=3)
        after = store.neighbours([found[0].chunk])
        assert (len(before), [chunk.text for chunk in after]) == (2, [TEXTS[1]])

    def test_a_search_finds_only_chunks_of_its_user(self, store: VectorStore) -> None:
        store.upsert(chunks("u1", user="ann"))
        store.upsert(chunks("u2", user="bob"))
        found = search(store, "museum admission", SearchFilter(user_id="bob"), 10)
        assert found
        assert {passage.chunk.upload_id for passage in found} == {"u2"}
        assert search(store, "museum", SearchFilter(user_id="eve"), 10) == []
        assert search(store, "museum", SearchFilter(user_id="ann", upload_ids=("u2",)), 10) == []

    def test_a_search_finds_only_chunks_of_the_named_uploads(self, store: VectorStore) -> None:
        for upload in ("u1", "u2", "u3"):
            store.upsert(chunks(upload))
        named = SearchFilter(user_id="local", upload_ids=("u1", "u3"))
        assert {p.chunk.upload_id for p in search(store, "museum", named, 10)} == {"u1", "u3"}
        assert search(store, "museum", SearchFilter(user_id="local", upload_ids=()), 10) == []
        assert store.count(named) == 2 * len(TEXTS)

    def test_delete_removes_one_upload_or_its_last_chunks(self, store: VectorStore) -> None:
        store.upsert(chunks("u1"))
        store.upsert(chunks("u2"))
        store.delete("u1", user_id="local", from_index=2)
        assert store.count(SearchFilter(user_id="local", upload_ids=("u1",))) == 2
        store.delete("u1", user_id="someone else")
        assert store.count(SearchFilter(user_id="local", upload_ids=("u1",))) == 2
        store.delete("u1", user_id="local")
        assert store.count(MINE) == len(TEXTS)

    def test_at_most_k_chunks_are_returned(self, store: VectorStore) -> None:
        store.upsert(chunks(texts=[f"museum number {n}" for n in range(30)]))
        assert len(search(store, "museum", MINE, 7)) == 7

    def test_a_question_of_stop_words_does_not_fail(self, store: VectorStore) -> None:
        store.upsert(chunks())
        assert isinstance(search(store, "the and of", MINE, 3), list)


def test_both_engines_rank_the_same(tmp_path: Path) -> None:
    stores: list[VectorStore] = [
        embedded_store(tmp_path / "qdrant", model="m", dense=None, bm25=Bm25Encoder()),
        server_store(QdrantClient(":memory:"), model="m", dense=None, bm25=Bm25Encoder()),
    ]
    rankings = []
    for store in stores:
        store.upsert(chunks())
        found = search(store, "museum of the lighthouse keeper", MINE, 4)
        rankings.append([(passage.chunk.page, round(passage.score, 3)) for passage in found])
        store.close()
    assert rankings[0] == rankings[1]


def embedded(folder: Path, *, owner: bool = False, wait_seconds: float = 20) -> VectorStore:
    return embedded_store(folder, model="m", dense=None, bm25=Bm25Encoder(), owner=owner, wait_seconds=wait_seconds)


def test_threads_may_share_an_embedded_store(tmp_path: Path) -> None:
    store = embedded(tmp_path, owner=True)
    store.upsert(chunks())
    failures: list[BaseException] = []

    def work(upload: str) -> None:
        try:
            for _ in range(5):
                store.upsert(chunks(upload))
                assert search(store, "museum", SearchFilter(user_id="local", upload_ids=(upload,)), 2)
        except BaseException as error:  # noqa: BLE001  shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.count(MINE) == 5 * len(TEXTS)
    store.close()


def test_a_second_owner_gets_an_error_that_names_qdrant_url(tmp_path: Path) -> None:
    first = embedded(tmp_path, owner=True)
    with pytest.raises(StoreInUse, match="QDRANT_URL"):
        embedded(tmp_path, owner=True)
    first.close()
    embedded(tmp_path, owner=True).close()


def test_the_owner_hands_over_to_another_process_and_goes_on(tmp_path: Path) -> None:
    owner = embedded(tmp_path, owner=True)
    owner.upsert(chunks("u1"))
    script = (
        "import sys; from pathlib import Path; from tests.client.qdrant.test_stores import *\n"
        f"store = embedded(Path({str(tmp_path)!r}))\n"
        "store.upsert(chunks('u2')); print(store.count(MINE)); store.close()"
    )
    done = subprocess.run(
        [PYTHON, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == str(2 * len(TEXTS)), done.stderr
    owner.upsert(chunks("u3"))
    assert owner.count(MINE) == 3 * len(TEXTS)
    owner.close()


def test_a_store_that_stays_busy_is_an_error_after_the_wait(tmp_path: Path) -> None:
    first = embedded(tmp_path)
    first.upsert(chunks())
    assert isinstance(first.engine, EmbeddedEngine)
    with first.engine.shard.open():  # as a long operation would
        second = embedded(tmp_path, wait_seconds=0.2)
        with pytest.raises(StoreUnavailable, match="busy"):
            search(second, "museum", MINE, 1)
    assert search(second, "museum", MINE, 1)


def test_stored_chunks_survive_kill_9(tmp_path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from tests.client.qdrant.test_stores import *\n"
        f"store = embedded(Path({str(tmp_path)!r}), owner=True)\n"
        "store.upsert(chunks('u1')); print('stored', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [PYTHON, "-c", script], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "stored\n"
        writer.send_signal(signal.SIGKILL)
    again = embedded(tmp_path, owner=True)
    assert again.count(MINE) == len(TEXTS)
    again.close()


def test_a_half_created_collection_is_created_again(tmp_path: Path) -> None:
    store = embedded(tmp_path)
    store.upsert(chunks())
    (next(tmp_path.glob("documents-*")) / "complete").unlink()
    with pytest.raises(NothingIndexed):
        search(store, "museum", MINE, 1)
    store.upsert(chunks())
    assert store.count(MINE) == len(TEXTS)


@pytest.mark.parametrize("removed", ["collection", "folder"])
@pytest.mark.parametrize("owner", [True, False])
def test_an_open_store_whose_folder_is_removed_begins_anew(tmp_path: Path, removed: str, owner: bool) -> None:
    folder = tmp_path / "qdrant"
    store = embedded(folder, owner=owner)
    store.upsert(chunks())
    (folder if removed == "folder" else next(folder.glob("documents-*"))).rename(tmp_path / "removed")
    with pytest.raises(NothingIndexed):
        search(store, "museum", MINE, 1)
    store.upsert(chunks("u2"))
    store.close()
    again = embedded(folder, owner=True)  # so the chunks are on the disk
    assert {passage.chunk.upload_id for passage in search(again, "museum", MINE, 9)} == {"u2"}
    again.close()


def test_a_collection_that_a_server_lost_is_created_again() -> None:
    client = QdrantClient(":memory:")
    store = server_store(client, model="m", dense=None, bm25=Bm25Encoder())
    store.upsert(chunks())
    client.delete_collection(client.get_collections().collections[0].name)
    store.upsert(chunks("u2"))
    assert store.count(MINE) == len(TEXTS)


def test_a_qdrant_server_that_is_away_is_an_error_that_names_qdrant_url() -> None:
    client = QdrantClient(url="http://127.0.0.1:9", timeout=2, check_compatibility=False)
    store = server_store(client, model="m", dense=None, bm25=Bm25Encoder())
    with pytest.raises(StoreUnavailable, match="QDRANT_URL"):
        search(store, "museum", MINE, 1)


def test_an_idle_owner_hands_over_to_a_waiting_process(tmp_path: Path) -> None:
    owner = embedded(tmp_path, owner=True)
    owner.upsert(chunks())
    other = embedded(tmp_path)
    assert other.count(MINE) == len(TEXTS)
    wait_until(lambda: owner.count(MINE) == len(TEXTS))
    owner.close()
    other.close()


def open_collections(engine: str, folder: Path) -> Collections:
    if engine == "embedded":
        return EmbeddedCollections(folder / "qdrant", owner=True)
    return ServerCollections(client_of(engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_collections_are_used_at_once_and_removed_one_by_one(engine: str, tmp_path: Path) -> None:
    collections = open_collections(engine, tmp_path)
    names = sorted(collection_name(f"{uuid.uuid4().hex}-{n}") for n in range(2))
    first, second = (
        VectorStore(collections.engine(name), model="m", dense=dense, bm25=Bm25Encoder())
        for name, dense in zip(names, (None, WordEmbeddings()), strict=True)
    )
    first.upsert(chunks("u1"))
    second.upsert(chunks("u2"))
    assert {passage.chunk.upload_id for passage in search(first, "museum", MINE, 9)} == {"u1"}
    assert {passage.chunk.upload_id for passage in search(second, "museum", MINE, 9)} == {"u2"}
    assert set(names) <= set(collections.names())
    collections.remove(names[0])
    collections.remove(names[0])  # does nothing the second time
    assert names[0] not in collections.names()
    with pytest.raises(NothingIndexed):
        search(first, "museum", MINE, 1)
    assert search(second, "museum", MINE, 1)
    collections.remove(names[1])
    collections.close()


def test_an_owner_hands_all_its_collections_over(tmp_path: Path) -> None:
    collections = open_collections("embedded", tmp_path)
    stores = [
        VectorStore(collections.engine(collection_name(name)), model=name, dense=None, bm25=Bm25Encoder())
        for name in ("one", "two")
    ]
    for store in stores:
        store.upsert(chunks())
    other = embedded_store(tmp_path / "qdrant", model="two", dense=None, bm25=Bm25Encoder())
    other.upsert(chunks("u2"))
    other.close()
    assert [store.count(MINE) for store in stores] == [len(TEXTS), 2 * len(TEXTS)]
    collections.close()


def test_a_removal_waits_for_the_searches_of_the_collection(tmp_path: Path) -> None:
    collections = open_collections("embedded", tmp_path)
    store = VectorStore(collections.engine("documents-2-m"), model="m", dense=None, bm25=Bm25Encoder())
    store.upsert(chunks())
    assert isinstance(store.engine, EmbeddedEngine)
    removal = threading.Thread(target=collections.remove, args=["documents-2-m"])
    with store.engine.shard.open():
        removal.start()
        assert (tmp_path / "qdrant" / "documents-2-m" / "complete").exists()
    removal.join(60)
    assert not (tmp_path / "qdrant" / "documents-2-m").exists()
    collections.close()
