"""Qdrant goes away while questions and uploads wait and run, and comes back: none of them fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from redis import Redis

from client.rq.records import QUEUES
from client.valkey import keys
from queues import wiring
from queues.ragworker import execution
from queues.ragworker.worker import RagWorker
from rag.ingest.indexing import BATCH_CHUNKS
from schemas import WAITING_FOR_STORE
from settings import Settings
from tests.api.test_uploads import state, uploaded
from tests.conftest import MakeSettings
from tests.support.jobs import working
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.pdfs import write_pdf
from tests.support.processes import RQ, running, wait_until
from tests.support.qdrant_server import QdrantServer
from tests.support.workers import worker_services

QUESTIONS = 200
CONCURRENCY = 16
UPLOADS = 5
PAGES = 20
QUESTION = "When was the lighthouse built?"


@pytest.fixture
def qdrant(tmp_path: Path) -> QdrantServer:
    """A Qdrant server, not yet running."""
    folder = tmp_path / "qdrant-server"
    folder.mkdir()
    return QdrantServer(folder)


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, qdrant: QdrantServer
) -> Settings:
    """Settings with the Qdrant server, the stub as the model provider, and those of an indirect parameter."""
    return make_settings(
        valkey_url=valkey_url,
        qdrant_url=qdrant.url,
        openai_base_url=stub.url,
        openai_api_key=KEY,
        embedding_model="text-embedding-3-small",
        worker_concurrency=CONCURRENCY,
        **getattr(request, "param", {}),
    )


@contextmanager
def worker(settings: Settings) -> Iterator[None]:
    """Run a RagWorker on all queues, in this process."""
    with worker_services(settings), working(settings, *QUEUES.values(), kind=RagWorker):
        yield


def ask(api: httpx.Client, count: int = 1) -> list[str]:
    """Ask so many different questions; return the ids of their jobs."""
    asked = [api.post("/chat", json={"query": f"{QUESTION} {number}", "cache": False}) for number in range(count)]
    return [response.json()["job_id"] for response in asked]


def statuses(api: httpx.Client, jobs: list[str]) -> Counter[str]:
    return Counter(api.get(f"/job-status/{job}").json()["status"] for job in jobs)


def wait_for_end(api: httpx.Client, jobs: list[str]) -> Counter[str]:
    """Wait for the end of jobs, in their order; return how they ended."""
    for job in jobs:
        wait_until(
            lambda job=job: api.get(f"/job-status/{job}").json()["status"] in {"finished", "failed"},  # type: ignore[misc]
            seconds=120,
            what=lambda: str(statuses(api, jobs)),
        )
    return statuses(api, jobs)


def long_pdfs(folder: Path, count: int) -> list[Path]:
    """Write different PDFs of several batches of chunks each."""
    return [
        write_pdf(
            folder / f"long-{number}.pdf",
            [" ".join(f"Sentence {number}.{page}.{n} goes on." for n in range(160)) for page in range(PAGES)],
        )
        for number in range(count)
    ]


def repeats(stub: OpenAIStub) -> int:
    """Return how many texts were embedded again. Questions are asked once more, so only those of documents count."""
    calls = [call["input"] for call in stub.behaviour.calls if "input" in call]
    texts = Counter(text for call in calls if isinstance(call, list) for text in call if QUESTION not in text)
    return sum(times - 1 for times in texts.values())


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_no_question_and_no_upload_fails_when_qdrant_is_away_for_a_while(
    how: str, api: httpx.Client, settings: Settings, qdrant: QdrantServer, valkey: Redis, stub: OpenAIStub, pdf: Path
) -> None:
    with ExitStack() as stack:
        stack.enter_context(qdrant.running())
        stack.enter_context(worker(settings))
        first = uploaded(api, pdf)
        wait_until(lambda: state(api, first)["status"] == "ready")
        uploads = [uploaded(api, path) for path in long_pdfs(pdf.parent, UPLOADS)]
        wait_until(lambda: qdrant.count() > BATCH_CHUNKS, what="the first chunks")
        jobs = ask(api, QUESTIONS // 2)
        (qdrant.kill if how == "killed" else qdrant.hang)()
        jobs += ask(api, QUESTIONS // 2)
        wait_until(lambda: valkey.exists(keys.STORE_OUTAGE), what="the note of the outage")
        assert_outage_is_told(api)
        wait_until(lambda: not statuses(api, jobs)["started"], what="the pause")
        waiting = Counter(str(api.get(f"/job-status/{job}").json().get("progress")) for job in jobs)
        assert any(WAITING_FOR_STORE in progress for progress in waiting)
        if how == "killed":
            stack.enter_context(qdrant.running())
        else:
            qdrant.wake()
        assert wait_for_end(api, jobs) == {"finished": len(jobs)}
        wait_until(lambda: all(state(api, one)["status"] == "ready" for one in uploads), seconds=120)
        wait_until(lambda: api.get("/ready").json()["status"] == "ready")
    assert repeats(stub) == 0


def assert_outage_is_told(api: httpx.Client) -> None:
    told = api.get("/ready").json()
    assert told["status"] == "degraded"
    assert told["parts"]["vector_store"] == "unavailable"
    assert told["vector_store_away_since"]
    assert any("does not answer since" in warning for warning in told["warnings"])


@contextmanager
def stock_worker(settings: Settings, folder: Path) -> Iterator[None]:
    """Run RQ's own worker on the queues of questions and uploads."""
    variables = {
        "VALKEY_URL": settings.queue_url,
        "QDRANT_URL": settings.qdrant_url or "",
        "DATA_DIR": str(settings.data_dir),
        "OPENAI_BASE_URL": settings.openai_base_url or "",
        "OPENAI_API_KEY": KEY,
        "EMBEDDING_MODEL": settings.embedding_model or "",
    }
    command = [RQ, "worker", "rag_documents", "rag_queries", "--url", settings.queue_url]
    with running(command, folder / "worker.log", **variables):
        yield


def shown(api: httpx.Client, job: str) -> tuple[str, str | None]:
    """Return the status and the stage of a job."""
    view = api.get(f"/job-status/{job}").json()
    return view["status"], view.get("progress", {}).get("stage")


class KilledWhileEmbedding:
    """An upload whose chunks are being stored while Qdrant is away: it went away while they were embedded."""

    def __init__(self, api: httpx.Client, qdrant: QdrantServer, stub: OpenAIStub, pdf: Path) -> None:
        self._killed = False
        self._qdrant = qdrant
        stub.behaviour.before_vectors = self._kill_once
        self.upload = uploaded(api, pdf)
        self.job = state(api, self.upload)["job_id"]
        wait_until(lambda: shown(api, self.job) == ("started", WAITING_FOR_STORE), what=lambda: str(self._shown(api)))
        assert self._killed

    def _shown(self, api: httpx.Client) -> tuple[str, str | None]:
        return shown(api, self.job)

    def _kill_once(self, _texts: list[str]) -> None:
        if not self._killed:
            self._killed = True
            self._qdrant.kill()


@pytest.mark.parametrize("kind", ["ragworker", "stock"])
def test_vectors_made_before_an_outage_are_stored_after_it(
    kind: str, api: httpx.Client, settings: Settings, qdrant: QdrantServer, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    [path] = long_pdfs(pdf.parent, 1)
    with qdrant.running(), worker(settings) if kind == "ragworker" else stock_worker(settings, tmp_path):
        waiting = KilledWhileEmbedding(api, qdrant, stub, path)
        if kind == "ragworker":
            wait_until(lambda: api.get("/ready").json()["vector_store_away_since"])
        with qdrant.running():
            wait_until(lambda: state(api, waiting.upload)["status"] == "ready", seconds=60)
            assert qdrant.count() == state(api, waiting.upload)["chunks"] > BATCH_CHUNKS
    assert repeats(stub) == 0


def test_a_worker_that_stops_hands_back_an_upload_that_waits_for_the_store(
    api: httpx.Client, settings: Settings, qdrant: QdrantServer, stub: OpenAIStub, pdf: Path
) -> None:
    with qdrant.running():
        with worker(settings):
            waiting = KilledWhileEmbedding(api, qdrant, stub, pdf)
        assert shown(api, waiting.job) == ("queued", WAITING_FOR_STORE)
        assert state(api, waiting.upload)["status"] == "processing"
        with qdrant.running(), worker(settings):
            wait_until(lambda: state(api, waiting.upload)["status"] == "ready")


@pytest.mark.parametrize("settings", [{"ingestion_timeout_seconds": 10}], indirect=True)
def test_an_upload_waits_for_the_store_for_half_of_its_time(
    api: httpx.Client, settings: Settings, qdrant: QdrantServer, stub: OpenAIStub, pdf: Path
) -> None:
    with qdrant.running(), worker(settings):
        waiting = KilledWhileEmbedding(api, qdrant, stub, pdf)
        wait_until(lambda: shown(api, waiting.job) == ("queued", WAITING_FOR_STORE))
        with qdrant.running():
            wait_until(lambda: state(api, waiting.upload)["status"] == "ready")


def test_a_deleted_upload_does_not_go_on_after_an_outage(
    api: httpx.Client, settings: Settings, qdrant: QdrantServer, stub: OpenAIStub, pdf: Path
) -> None:
    with qdrant.running(), worker(settings):
        waiting = KilledWhileEmbedding(api, qdrant, stub, pdf)
        assert api.delete(f"/uploads/{waiting.upload}").status_code == 202
        with qdrant.running():
            wait_until(lambda: api.get(f"/uploads/{waiting.upload}").status_code == 404)
            wait_until(lambda: shown(api, waiting.job)[0] == "failed")
            assert qdrant.count() == 0


def test_a_job_under_a_stock_worker_waits_inside(
    api: httpx.Client, settings: Settings, qdrant: QdrantServer, pdf: Path, tmp_path: Path
) -> None:
    with stock_worker(settings, tmp_path):
        upload = uploaded(api, pdf)
        job = state(api, upload)["job_id"]
        wait_until(lambda: shown(api, job)[1] == WAITING_FOR_STORE)
        assert state(api, upload)["status"] == "processing"
        with qdrant.running():
            wait_until(lambda: state(api, upload)["status"] == "ready")


def test_a_job_that_the_store_never_answers_fails_although_probes_succeed(
    api: httpx.Client, settings: Settings, pdf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "MAX_STORE_FAILURES", 3)
    monkeypatch.setattr(wiring, "store_answers", lambda _settings: True)
    with worker(settings):  # and no Qdrant server
        upload, [job] = uploaded(api, pdf), ask(api)
        assert wait_for_end(api, [job]) == {"failed": 1}
        assert "QDRANT_URL" in api.get(f"/job-status/{job}").json()["error"]
        wait_until(lambda: state(api, upload)["status"] == "failed")
        assert state(api, upload)["reason"] == "store_error"
