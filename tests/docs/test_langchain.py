"""docs/langchain.md: its scripts, and what the service does with documents that LangChain wrote.

They run on qdrant-client's local mode, in place of a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import qdrant_client
from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

import client.qdrant.connection
from cli.audit import run_audit
from client.qdrant.points import DENSE_VECTOR, SPARSE_VECTOR, collection_name
from server import create_app
from settings import ROOT, Settings
from tests.conftest import MakeSettings
from tests.queues.test_chat import index as index_file
from tests.queues.test_conversations import ask, result
from tests.support.documents import snippets
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.workers import work

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")

SCRIPTS = [snippet.text for snippet in snippets(ROOT / "docs" / "langchain.md") if snippet.language == "python"]
OPEN, WRITE = SCRIPTS[0], SCRIPTS[-1]
MODEL = "text-embedding-3-small"
URL = "http://qdrant.example:6333"
CLAIM = "The wreck of the Saltmarsh lies under the ferry pier."
QUESTION = "Where does the wreck of the Saltmarsh lie?"


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantClient]:
    """A Qdrant that the service and the scripts open as a server."""
    local = QdrantClient(":memory:")
    close = local.close
    monkeypatch.setattr(local, "close", lambda: None)  # each program closes its own client

    def connect(url: str, api_key: str | None = None) -> QdrantClient:
        assert (url, api_key) == (URL, None)
        return local

    monkeypatch.setattr(client.qdrant.connection, "connect", lambda settings: connect(settings.qdrant_url))
    monkeypatch.setattr(qdrant_client, "QdrantClient", connect)
    yield local
    close()


@pytest.fixture
def model_settings(
    stub: OpenAIStub, make_settings: MakeSettings, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings with a Qdrant server and a model, which the scripts find in the environment."""
    use = {"QDRANT_URL": URL, "OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
    for name, value in use.items():
        monkeypatch.setenv(name, value)
    return make_settings(valkey_url=valkey_url)


@pytest.fixture
def indexed(model_settings: Settings, pdf: Path, stub: OpenAIStub) -> Settings:
    """The same, with a document indexed by the service."""
    index_file(pdf, model_settings, QDRANT_URL=URL, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    return model_settings


def open_store() -> QdrantVectorStore:
    """Open the index as the first script opens it."""
    names: dict[str, Any] = {}
    exec(compile(OPEN, "docs/langchain.md", "exec"), names)  # noqa: S102
    opened = names["index"]
    assert isinstance(opened, QdrantVectorStore)
    return opened


def answer(settings: Settings, question: str) -> dict[str, Any]:
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as api:
        job_id = ask(api, question, cache=False)
        work(settings)
        return result(api, job_id)


def metadata_of_a_chunk(server: QdrantClient) -> dict[str, Any]:
    """Return the metadata that the service wrote."""
    (point,), _ = server.scroll(collection_name(MODEL), limit=1)
    assert point.payload
    return dict(point.payload["metadata"])


def count(server: QdrantClient) -> int:
    return server.count(collection_name(MODEL)).count


@pytest.mark.usefixtures("indexed")
def test_the_scripts_run_one_after_the_other(capsys: pytest.CaptureFixture[str], server: QdrantClient) -> None:
    names: dict[str, Any] = {}
    printed = []
    for script in SCRIPTS:
        exec(compile(script, "docs/langchain.md", "exec"), names)  # noqa: S102
        printed.append(capsys.readouterr().out)
    assert printed[0] == ""
    assert "lighthouse.pdf page 1 The lighthouse of Brindle Point was built in 1887" in printed[1]
    assert printed[2] == "['lighthouse.pdf', 'lighthouse.pdf', 'lighthouse.pdf']\n"
    assert printed[3] == "['The spare lamp is in the shed.']\n"
    (written,) = server.retrieve(collection_name(MODEL), names["ids"], with_vectors=True)
    assert isinstance(written.vector, dict)
    assert written.vector.keys() == {DENSE_VECTOR, SPARSE_VECTOR}


@pytest.mark.usefixtures("indexed")
def test_each_mode_of_retrieval_finds_the_best_chunk_and_only_of_the_user() -> None:
    store = open_store()
    for mode in ("dense", "sparse", "hybrid"):
        store.retrieval_mode = mode  # type: ignore[assignment]
        for user, found in (("local", ["3"]), ("bob", [])):
            condition = models.FieldCondition(key="metadata.user_id", match=models.MatchValue(value=user))
            best = store.similarity_search(
                "cottage museum admission crowns", k=1, filter=models.Filter(must=[condition])
            )
            assert [document.metadata["page_label"] for document in best] == found, mode


@pytest.mark.parametrize("metadata", ["none", "user", "user and upload", "complete", "wrong types"])
def test_what_langchain_wrote_neither_breaks_an_answer_nor_shows_up(
    metadata: str, indexed: Settings, server: QdrantClient
) -> None:
    complete = metadata_of_a_chunk(server) | {"upload_id": "not-an-upload"}
    written = {
        "none": {},
        "user": {"user_id": "local", "source": "a.txt"},
        "user and upload": {"user_id": "local", "upload_id": "not-an-upload"},
        "complete": complete,
        "wrong types": complete | {"page": "third", "index": None},
    }
    open_store().add_documents([Document(CLAIM, metadata=written[metadata])] * 3)
    refused = answer(indexed, QUESTION)
    assert refused["status"] == "completed", refused
    assert "pier" not in str(refused)
    answered = answer(indexed, "When was the lighthouse built?")
    assert "1887" in answered["result"]
    assert {source["name"] for source in answered["sources"]} == {"lighthouse.pdf"}


def test_an_audit_removes_what_claims_to_be_of_an_upload_and_leaves_the_rest(
    indexed: Settings, server: QdrantClient
) -> None:
    store, before = open_store(), count(server)
    store.add_documents([Document(CLAIM), Document(CLAIM, metadata={"user_id": "local"})])
    store.add_documents([Document(CLAIM, metadata={"user_id": "local", "upload_id": "not-an-upload"})])
    line = "1 points belong to no searchable upload (not-an-upload): "
    named = run_audit(indexed, url=indexed.queue_url, repair=True, delete=False)
    assert named == [f"{line}would be removed with --repair"]
    assert count(server) == before + 3
    assert run_audit(indexed, url=indexed.queue_url, repair=True, delete=True) == [f"{line}removed"]
    assert count(server) == before + 2
    assert run_audit(indexed, url=indexed.queue_url, repair=True, delete=True) == []
