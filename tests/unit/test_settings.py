"""Settings: what is read, and the sentence a wrong one gets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from errors import SettingsError
from settings import Settings, without_password
from tests.conftest import MakeSettings
from tests.processes import PYTHON, ROOT, environment


def test_defaults_need_nothing(make_settings: MakeSettings) -> None:
    settings = make_settings(data_dir="data")
    assert settings.offline
    assert settings.dense_model is None
    assert settings.valkey_url is None
    assert settings.queue_url == "redis://127.0.0.1:6379"
    assert settings.data_dir == ROOT / "data"


@pytest.mark.parametrize("name", ["VALKEY_URL", "REDIS_URL", "RQ_REDIS_URL"])
def test_valkey_url_has_three_names(name: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VALKEY_URL")
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.setenv(name, "valkey://:pa55@example.test:7000/1")
    settings = make_settings()
    assert settings.valkey_url == "redis://:pa55@example.test:7000/1"
    assert "pa55" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("VALKEY_URL", "http://example.test"),
        ("QDRANT_URL", "localhost:6333"),
        ("OPENAI_BASE_URL", "ftp://example.test"),
        ("WORKER_PROCESSES", "0"),
        ("WORKER_PROCESSES", "2"),
        ("JOB_TIMEOUT_SECONDS", "-1"),
        ("RESULT_TTL_SECONDS", "0"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_senseless_value_stops_with_a_sentence_that_names_it(
    name: str, value: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        make_settings()
    assert name in caught.value.detail
    assert "\n" not in caught.value.detail


def test_main_prints_one_line_and_no_stack_trace(tmp_path: Path) -> None:
    done = subprocess.run(
        [PYTHON, "main.py"],
        cwd=ROOT,
        env=environment(PORT="eighty", DATA_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: PORT must be a valid integer")
    assert done.stderr.count("\n") == 1


def test_a_key_is_never_shown(make_settings: MakeSettings) -> None:
    settings = make_settings(openai_api_key="sk-very-pa55", qdrant_api_key="also-pa55")
    assert "pa55" not in f"{settings!r}{settings}{settings.model_dump()}"


def test_lexical_search_can_be_chosen_with_a_model(make_settings: MakeSettings) -> None:
    settings = make_settings(openai_base_url="http://127.0.0.1:11434/v1", embedding_model="bm25")
    assert not settings.offline
    assert settings.dense_model is None


def test_the_url_of_a_running_embedded_valkey_is_found(make_settings: MakeSettings) -> None:
    settings = make_settings()
    settings.valkey_dir.mkdir(parents=True)
    (settings.valkey_dir / "url").write_text("redis://127.0.0.1:16400")
    assert settings.queue_url == "redis://127.0.0.1:16400"


def test_settings_do_not_change(settings: Settings) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_a_printed_url_has_no_password() -> None:
    assert without_password("redis://user:pa55@host:1/0") == "redis://user:***@host:1/0"
    assert without_password("redis://host:1") == "redis://host:1"
