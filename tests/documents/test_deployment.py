"""A process with the settings of another deployment refuses to work on this one's data."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from qdrant_client import QdrantClient
from redis import Redis

import server
from client.files.store import open_file_store
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.server import server_store
from client.qdrant.store import VectorStore
from client.sql.database import Database
from client.sql.deployment import DeploymentRepository
from client.sql.uploads import UploadRepository
from client.valkey import keys
from documents.deployment import MARKER, establish
from errors import SettingsError, StoreRefused
from settings import Settings
from tests.api.test_uploads import state, uploaded
from tests.client.qdrant.test_stores import chunks
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.processes import PYTHON, RQ, free_port, refused, running, wait_until
from tests.support.qdrant_server import QdrantServer
from tests.support.uploads import new_upload
from tests.support.workers import worker_services

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


class Machine:
    """The settings of one machine: its database, with the Valkey and the Qdrant that it reaches."""

    def __init__(self, settings: Settings, valkey: Redis, client: QdrantClient) -> None:
        database = Database(settings)
        self.deployment, self.uploads = DeploymentRepository(database), UploadRepository(database)
        self._valkey, self._client, self.files = valkey, client, open_file_store(settings)
        self.store = self.open_store()

    def open_store(self) -> VectorStore:
        return server_store(self._client, model="m", dense=None, bm25=Bm25Encoder())

    def start(self) -> str | None:
        """Do what a worker does when it starts; return the id of its deployment."""
        self.store = self.open_store()
        establish(self.deployment, self.uploads, self._valkey, self.store, self.files)
        return self.deployment.read()

    def index(self, upload_id: str) -> None:
        self.uploads.add(new_upload(upload_id=upload_id), unique=False)
        self.store.upsert(chunks(upload_id))


@pytest.fixture
def machines(make_settings: MakeSettings, valkey: Redis, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """A machine, and another one with a database of its own. Both reach the same Valkey and Qdrant."""
    client = QdrantClient(":memory:")
    first, second = (Machine(make_settings(data_dir=tmp_path / name), valkey, client) for name in ("one", "two"))
    with closing(first.uploads), closing(second.uploads):
        yield first, second


def test_the_first_start_makes_an_id_that_all_parts_keep(machines: tuple[Machine, Machine], valkey: Redis) -> None:
    machine, _ = machines
    made = machine.start()
    assert made
    assert UUID(made)
    machine.index("u1")
    assert machine.start() == made
    assert valkey.get(keys.DEPLOYMENT) == made.encode()
    assert machine.open_store().engine.deployment() == made


def test_a_machine_with_another_database_is_refused(machines: tuple[Machine, Machine], valkey: Redis) -> None:
    first, second = machines
    first.start()
    for lost in (False, True):
        if lost:
            valkey.flushall()
            first.index("u1")
        with pytest.raises(SettingsError, match="DATABASE_URL and FILE_STORE_URL"):
            second.start()
        assert second.deployment.read() is None
    assert first.start()
    second.deployment.write("another")
    with pytest.raises(SettingsError, match="Valkey belongs to another deployment"):
        second.start()
    valkey.flushall()
    with pytest.raises(SettingsError, match="the vector store belongs to another deployment"):
        second.start()


def test_an_installation_without_an_id_adopts_one_only_where_rows_and_points_agree(
    machines: tuple[Machine, Machine],
) -> None:
    first, second = machines
    for name in ("u1", "u2", "u3"):
        first.index(name)
    first.store.upsert(chunks("of a deleted upload"))
    with pytest.raises(SettingsError):
        second.start()
    made = first.start()
    assert made
    assert first.open_store().engine.deployment() == made


def test_lost_parts_are_given_their_id_again(machines: tuple[Machine, Machine], valkey: Redis) -> None:
    machine, _ = machines
    made = machine.start()
    valkey.flushall()
    assert machine.start() == made
    machine.index("u1")
    assert machine.open_store().engine.deployment() == made


def test_nothing_is_written_into_the_collection_of_another_deployment(
    machines: tuple[Machine, Machine], valkey: Redis
) -> None:
    first, second = machines
    second.start()  # before the other has stored anything
    valkey.flushall()
    first.start()
    first.index("u1")
    with pytest.raises(StoreRefused, match="DATABASE_URL"):
        second.index("u2")


def test_the_files_of_another_deployment_are_refused(
    machines: tuple[Machine, Machine], make_settings: MakeSettings, valkey: Redis, tmp_path: Path
) -> None:
    first, _ = machines
    made = first.start()
    assert made
    assert b"".join(first.files.read(MARKER)) == made.encode()
    valkey.flushall()
    another = Machine(make_settings(data_dir=tmp_path / "three"), valkey, QdrantClient(":memory:"))
    another.files = first.files
    with closing(another.uploads), pytest.raises(SettingsError, match="the file store belongs to another deployment"):
        another.start()
    assert first.start() == made


def test_an_api_stops_when_the_valkey_of_another_deployment_answers_in_place_of_its_own(
    make_settings: MakeSettings, valkey: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(valkey_url=valkey_url)
    with closing(Database(settings)) as database:
        DeploymentRepository(database).write("own")
    monkeypatch.setattr(server, "RECONCILE_SECONDS", 0.05)
    stopped = threading.Event()
    monkeypatch.setattr(signal, "raise_signal", lambda _number: stopped.set())
    with serving(server.create_app(settings)):
        valkey.set(keys.DEPLOYMENT, "own")
        assert not stopped.wait(0.3)
        valkey.set(keys.DEPLOYMENT, "another")
        assert stopped.wait(10)


@pytest.fixture
def shared(tmp_path: Path, make_settings: MakeSettings, valkey_url: str) -> Iterator[Settings]:
    """The settings of a deployment with a Qdrant server and one document."""
    folder = tmp_path / "server"
    folder.mkdir()
    qdrant = QdrantServer(folder)
    with qdrant.running():
        yield make_settings(valkey_url=valkey_url, qdrant_url=qdrant.url)


def test_programs_with_another_data_dir_change_nothing(shared: Settings, pdf: Path, tmp_path: Path) -> None:
    own = {"VALKEY_URL": shared.queue_url, "QDRANT_URL": shared.qdrant_url or "", "DATA_DIR": str(shared.data_dir)}
    other = own | {"DATA_DIR": str(tmp_path / "other"), "PORT": "0"}
    port = str(free_port())
    with (
        running([PYTHON, "main.py", "api"], tmp_path / "api.log", **own, PORT=port) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api,
    ):
        wait_until(lambda: "running on" in process.output, what=lambda: process.output)
        with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **own) as worker:
            first = uploaded(api, pdf)
            wait_until(lambda: state(api, first)["status"] == "ready", what=lambda: worker.output)
        for command in ("worker", "api", "audit"):
            said = refused(command, **other)
            assert "belongs to another deployment" in said
            assert "QDRANT_URL, VALKEY_URL, DATABASE_URL and FILE_STORE_URL" in said
        second = uploaded(api, ("b.txt", b"Another document."))
        stock_worker = [RQ, "worker", "rag_documents", "--burst", "--url", shared.queue_url]
        with running(stock_worker, tmp_path / "stock.log", **other) as stock:
            wait_until(lambda: stock.process.poll() is not None)
        job = api.get(f"/job-status/{state(api, second)['job_id']}").json()
        assert "belongs to another deployment" in job["error"]
    with worker_services(shared) as services:
        assert services.store.count_by_upload() == {("local", first): 3}
