"""`main.py doctor`: one sentence for each part, and an exit status of 1 when one does not work."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

import main
from client.sql.database import Database
from client.valkey import keys
from settings import Settings
from tests.cli.test_main import service, upload
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.processes import PYTHON, free_port, run
from tests.support.servers import s3_location

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run `main.py doctor --json` on the test's Valkey and data folder, with further settings."""

    def run(*arguments: str, **variables: str) -> tuple[int, dict[str, Any]]:
        use = {"VALKEY_URL": settings.queue_url, "DATA_DIR": str(settings.data_dir), "PORT": str(free_port())}
        for name, value in (use | variables).items():
            monkeypatch.setenv(name, value)
        status = main.main(["doctor", "--json", *arguments])
        return status, json.loads(capsys.readouterr().out)

    return run


def sentences(report: dict[str, Any], state: str, part: str) -> str:
    found = [each["sentence"] for each in report["findings"] if (each["state"], each["part"]) == (state, part)]
    return "\n".join(found)


@pytest.fixture
def prepared(settings: Settings) -> Settings:
    """A database with its tables."""
    with closing(Database(settings)) as database:
        database.migrate()
    return settings


def test_a_service_in_order_is_found_in_order_running_or_not(tmp_path: Path, pdf: Path, stub: OpenAIStub) -> None:
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "DATA_DIR": str(tmp_path / "data")}
    with service(tmp_path, **use) as started:
        upload(pdf, started.api)
        use["PORT"] = str(started.api.base_url.port)
        done = _run(**use)
        assert done.returncode == 0, done.stdout
        lines = done.stdout.splitlines()
        assert "0 wrong" in lines[-1]
        states = {line[6:18].strip(): line[:4].strip() for line in lines[:-1] if "tesseract" not in line}
        parts = {"settings", "machine", "disk", "Valkey", "clock", "queues", "SQL", "files", "vectors", "deployment"}
        assert states == dict.fromkeys([*parts, "chat model", "embeddings", "webhooks", "API"], "OK")
        assert "holds 3 chunks of 1 upload" in done.stdout
        assert "rag_queries 0 (1 worker)" in done.stdout
        assert "answers with 64 dimensions" in done.stdout
        assert KEY not in done.stdout + done.stderr
        assert "OPENAI_API_KEY=********" in done.stdout
    stopped = _run(**use)
    assert stopped.returncode == 0, stopped.stdout
    assert "no service runs on DATA_DIR" in stopped.stdout
    assert "holds 3 chunks of 1 upload" in stopped.stdout
    assert "API           does not answer" in stopped.stdout


def _run(**variables: str) -> subprocess.CompletedProcess[str]:
    return run([PYTHON, "main.py", "doctor"], **variables)


def test_a_valkey_that_is_away_is_wrong(doctor: Doctor) -> None:
    status, report = doctor(VALKEY_URL=f"redis://127.0.0.1:{free_port()}")
    assert status == 1
    assert report["wrong"] == 1
    assert "cannot be reached" in sentences(report, "FAIL", "Valkey")


def test_what_valkey_lacks_is_said(doctor: Doctor, valkey: Redis) -> None:
    valkey.config_set("maxmemory-policy", "allkeys-lru")
    valkey.config_set("appendonly", "no")
    valkey.set(keys.SUSPENDED, 1)
    try:
        status, report = doctor()
    finally:
        valkey.config_set("maxmemory-policy", "noeviction")
        valkey.config_set("appendonly", "yes")
    assert status == 0
    assert "appendonly yes" in sentences(report, "WARN", "Valkey")
    warnings = sentences(report, "WARN", "queues")
    assert "set it to noeviction" in warnings
    assert "rq resume" in warnings
    assert "no worker listens on rag_queries" in warnings


def test_tables_of_other_versions_are_left_as_they_are(doctor: Doctor, prepared: Settings) -> None:
    for revision, state, words in (("0003", "WARN", "the next start migrates them"), ("9999", "FAIL", "newer version")):
        with closing(sqlite3.connect(prepared.data_dir / "uploads.db")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        status, report = doctor()
        assert status == (state == "FAIL")
        assert words in sentences(report, state, "SQL")
        with closing(Database(prepared)) as database:
            assert database.versions()[1] == revision


def test_a_store_of_another_deployment_is_wrong(doctor: Doctor, prepared: Settings, valkey: Redis) -> None:
    valkey.set(keys.DEPLOYMENT, "another")
    with closing(Database(prepared)) as database, database.writing() as connection:
        connection.execute(text("INSERT INTO deployment (place, deployment_id) VALUES (1, 'ours')"))
    status, report = doctor()
    assert status == 1
    assert "Valkey belongs to another deployment" in sentences(report, "FAIL", "deployment")


def test_a_qdrant_and_an_s3_that_are_away_are_wrong(doctor: Doctor, prepared: Settings) -> None:
    assert prepared.qdrant_url is None
    s3 = {name.upper(): value for name, value in s3_location(f"http://127.0.0.1:{free_port()}").items()}
    status, report = doctor(QDRANT_URL=f"http://127.0.0.1:{free_port()}", **s3)
    assert status == 1
    assert "check QDRANT_URL" in sentences(report, "FAIL", "vectors")
    assert "check FILE_STORE_URL" in sentences(report, "FAIL", "files")


def test_a_model_that_refuses_is_wrong_and_is_not_asked_in_vain(
    doctor: Doctor, prepared: Settings, stub: OpenAIStub
) -> None:
    assert prepared.offline
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
    stub.behaviour.refused_models = {"gpt-4.1-mini"}
    status, report = doctor(**use)
    assert status == 1
    assert "does not know the model" in sentences(report, "FAIL", "chat model")
    assert "64 dimensions" in sentences(report, "OK", "embeddings")
    asked = len(stub.behaviour.calls)
    assert doctor("--no-model", **use)[0] == 0
    assert len(stub.behaviour.calls) == asked


def test_another_model_behind_the_same_name_is_wrong(doctor: Doctor, prepared: Settings, stub: OpenAIStub) -> None:
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY}
    assert doctor(**use)[0] == 0
    with closing(Database(prepared)) as database, database.writing() as connection:
        connection.execute(text("UPDATE index_versions SET dimensions = 1536"))
    status, report = doctor(**use)
    assert status == 1
    assert "reindex --all" in sentences(report, "FAIL", "embeddings")


def test_an_open_host_without_keys_is_wrong(doctor: Doctor) -> None:
    status, report = doctor(HOST="0.0.0.0")
    assert status == 1
    assert "keys create" in sentences(report, "FAIL", "settings")
