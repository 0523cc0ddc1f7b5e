"""WORKER_QUEUES: workers for some queues only. `main.py migrate`: the tables, before anything starts."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from client.sql.database import REVISION, Database
from client.sql.uploads import UploadRepository
from errors import SettingsError
from queues.run import queues_of
from settings import Settings
from tests.conftest import MakeSettings
from tests.queues.test_chat import variables
from tests.support.processes import PYTHON, refused, run, running, wait_until


def test_a_worker_serves_the_queues_that_it_is_told(settings: Settings, valkey: Redis, tmp_path: Path) -> None:
    use = variables(settings, WORKER_QUEUES="rag_queries, rag_webhooks")
    with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use) as worker:
        wait_until(lambda: valkey.scard("rq:workers:rag_queries"), seconds=60, what=lambda: worker.output)
        assert valkey.scard("rq:workers:rag_webhooks") == 1
        assert valkey.scard("rq:workers:rag_documents") == 0


def test_every_queue_is_served_unless_told_otherwise(make_settings: MakeSettings) -> None:
    assert set(queues_of(make_settings())) == {"rag_queries", "rag_documents", "rag_webhooks"}
    assert queues_of(make_settings(worker_queues="rag_documents,")) == ["rag_documents"]
    with pytest.raises(SettingsError, match="WORKER_QUEUES names questions, which is no queue"):
        queues_of(make_settings(worker_queues="questions,rag_queries"))


def test_a_queue_that_does_not_exist_stops_the_start(settings: Settings) -> None:
    said = refused("worker", **variables(settings, WORKER_QUEUES="rag_query"))
    assert "rag_query, which is no queue: set it to some of rag_queries, rag_documents, rag_webhooks" in said


def test_migrate_makes_the_tables_and_says_so(make_settings: MakeSettings) -> None:
    settings = make_settings()
    use = variables(settings)
    for _ in range(2):  # the second time there is nothing to do
        done = run([PYTHON, "main.py", "migrate"], **use)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"the database has the tables of this version ({REVISION})\n"
    with closing(Database(settings)) as database:
        assert UploadRepository(database).get("0" * 32) is None
    assert "DATABASE_URL" in refused("migrate", **(use | {"DATABASE_URL": "mysql://somewhere"}))
