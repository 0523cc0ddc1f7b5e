"""Workers that are killed while they index or delete an upload: the next worker finishes the job."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
import pytest
from redis import Redis

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import read_document
from schemas import Document, SearchFilter
from server import create_app
from settings import Settings
from tests.api.test_uploads import post, state, uploaded
from tests.client.qdrant.test_stores import search
from tests.conftest import MakeSettings
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, run
from tests.support.workers import work, worker_services

PAGES = 34


@pytest.fixture
def long_pdf(tmp_path: Path) -> Path:
    """A PDF of several batches."""
    pages = [" ".join(f"Sentence {page}.{n} goes on." for n in range(160)) for page in range(PAGES)]
    return write_pdf(tmp_path / "long.pdf", pages)


@pytest.fixture
def with_model(make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub) -> Settings:
    """Settings with the stub as the model provider, whose calls can be counted."""
    return make_settings(
        valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY, embedding_model="text-embedding-3-small"
    )


def crash(settings: Settings, at: int, when: str) -> int:
    """Run a worker that kills itself; return its exit status."""
    use = {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": settings.queue_url}
    if settings.openai_base_url:
        use |= {"OPENAI_BASE_URL": settings.openai_base_url, "OPENAI_API_KEY": KEY}
    return run([PYTHON, "-m", "tests.support.crashing_worker", str(at), when], **use).returncode


def embeddings_by_text(stub: OpenAIStub) -> Counter[str]:
    """Count the embeddings of each text."""
    calls = [call for call in stub.behaviour.calls if "input" in call]
    return Counter(text for call in calls for text in call["input"] if isinstance(text, str))


# The changes: start, then record_progress and upsert alternately, delete of left-over chunks, finish.
@pytest.mark.parametrize(("at", "when"), [(1, "after"), (2, "before"), (4, "after"), (7, "after")])
def test_the_next_worker_continues_the_indexing_of_a_killed_one(
    at: int, when: str, with_model: Settings, stub: OpenAIStub, valkey: Redis, long_pdf: Path
) -> None:
    with serving(create_app(with_model)) as url, httpx.Client(base_url=url, timeout=10) as api:
        body = post(api, long_pdf).json()
        assert crash(with_model, at, when) == -9
        assert state(api, body["upload_id"])["status"] == "processing"
        valkey.rpush("rq:queue:rag_documents", body["job_id"])  # as the recovery of lost jobs does
        work(with_model)
        ready = state(api, body["upload_id"])
        assert ready["status"] == "ready"
    twice = {text for text, count in embeddings_by_text(stub).items() if count > 1}
    assert len(twice) <= (64 if when == "before" else 0), "only a batch in flight is embedded again"
    document = Document(upload_id=body["upload_id"], path=str(long_pdf), name=long_pdf.name)
    pages = read_document(long_pdf).pages
    clean = Counter(chunk.id for chunk in chunk_pages(document, pages, model="text-embedding-3-small"))
    assert points(with_model, body["upload_id"]) == clean
    assert clean.total() == ready["chunks"] > 128


def points(settings: Settings, upload_id: str) -> Counter[str]:
    """Count the stored points of an upload by id."""
    with worker_services(settings) as services:
        search_filter = SearchFilter(user_id="local", upload_ids=(upload_id,))
        found = search(services.store, "Sentence page", search_filter, 10_000)
        assert services.store.count(search_filter) == len(found)
        return Counter(passage.chunk.id for passage in found)


@pytest.mark.parametrize(("at", "when"), [(1, "before"), (1, "after"), (2, "after"), (3, "after")])
def test_the_next_worker_finishes_the_delete_of_a_killed_one(
    at: int, when: str, api: httpx.Client, settings: Settings, valkey: Redis, pdf: Path
) -> None:
    upload_id = uploaded(api, pdf)
    work(settings)
    job_id = api.delete(f"/uploads/{upload_id}").json()["job_id"]
    assert crash(settings, at, when) == -9
    assert api.post("/chat", json={"query": "When?", "upload_id": upload_id}).status_code == 404
    valkey.rpush("rq:queue:rag_documents", job_id)
    work(settings)
    assert api.get(f"/uploads/{upload_id}").status_code == 404
    assert list(settings.files_dir.iterdir()) == []
    store = embedded_store(settings.qdrant_dir, model="bm25", dense=None, bm25=Bm25Encoder())
    assert store.count_by_upload() == {}
