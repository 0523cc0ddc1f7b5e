"""Settings: the order of their sources, and the error message of an invalid value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from errors import SettingsError
from settings import Settings, load_settings, without_password
from tests.conftest import MakeSettings
from tests.support.processes import ROOT, refused

ReadSettings = Callable[..., Settings]


@pytest.fixture
def read_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReadSettings:
    """Return a function that reads settings from a `.env` file with a given text and given variables only."""
    for name in [*(name.upper() for name in Settings.model_fields), "REDIS_URL", "RQ_REDIS_URL"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")

    def read(env_file: str, **variables: str) -> Settings:
        (tmp_path / ".env").write_text(env_file)
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return load_settings()

    return read


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
        ("API_PROCESSES", "0"),
        ("WORKER_PROCESSES", "0"),
        ("WORKER_PROCESSES", "2"),
        ("JOB_TIMEOUT_SECONDS", "-1"),
        ("RESULT_TTL_SECONDS", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("VALKEY_URL", "redis://localhost:abc"),
        ("VALKEY_URL", "redis://localhost:99999"),
        ("VALKEY_URL", "redis://localhost:0"),
        ("VALKEY_URL", "redis://127.0.0.1:6379/notadb"),
        ("VALKEY_URL", "redis://127.0.0.1:6379?nonsense=1"),
        ("VALKEY_URL", "redis://127.0.0.1:6379?socket_timeout=soon"),
        ("VALKEY_URL", "redis://[::1"),
        ("VALKEY_URL", "unix://"),
        ("QDRANT_URL", "http://h:99999"),
        ("QDRANT_URL", "http://a..b"),
        ("OPENAI_BASE_URL", "http://h:x/v1"),
        ("OPENAI_BASE_URL", "http://a b/v1"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_URL", "postgresql://h:abc/x"),
        ("DATABASE_URL", "sqlite://"),
        ("FILE_STORE_URL", "s3://"),
        ("DATA_DIR", "~no-such-user-here/data"),
        ("HOST", "300.1.1.1"),
        ("HOST", "http://127.0.0.1"),
        ("RESULT_TTL_SECONDS", "99999999999999999"),
        ("QDRANT_API_KEY", "schl\u00fcssel"),
        ("OPENAI_API_KEY", "sk-one\nsk-two"),
        ("RERANK_API_KEY", "key\x7f"),
        ("EXTRACT_MEMORY_MB", "99999999999999"),
        ("EXTRACT_SECONDS", "9999999999"),
        ("PUBLIC_URL", "rag.example"),
        ("PUBLIC_URL", "https://rag.example/?page=1"),
        ("TRUSTED_PROXIES", "proxy"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "*, 10.0.0.1"),
    ],
)
@pytest.mark.usefixtures("make_settings")
def test_an_invalid_value_raises_an_error_that_names_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert name in caught.value.detail
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    "url", ["redis://:hush/2@h:1", "redis://:hu[sh@h", "redis://:hush\u2100@h", "redis://u:hush@h:x"]
)
def test_no_error_message_repeats_a_password(
    url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("VALKEY_URL", url), ("DATABASE_URL", url.replace("redis", "postgresql"))):
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError) as caught:
            make_settings()
        assert name in caught.value.detail
        assert "hu" not in caught.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://rag:p%2Fss@[::1]:7000/3",
        "rediss://example.test/?db=2&socket_timeout=1.5",
        "unix:///run/valkey.sock?db=1",
    ],
)
def test_a_url_that_redis_py_reads_is_not_changed(url: str, make_settings: MakeSettings) -> None:
    assert make_settings(valkey_url=url).valkey_url == url


def test_the_host_is_read_without_its_brackets(make_settings: MakeSettings) -> None:
    assert make_settings(host="[::1]").host == "::1"


@pytest.mark.parametrize("value", ["", "*", "127.0.0.1", "10.0.0.0/8, ::1"])
def test_trusted_proxies_accepts_the_values_that_uvicorn_accepts(value: str, make_settings: MakeSettings) -> None:
    assert make_settings(trusted_proxies=value).trusted_proxies == value


def test_a_key_may_contain_spaces(make_settings: MakeSettings) -> None:
    assert not make_settings(openai_api_key="not needed").offline


def test_main_prints_one_line_and_no_stack_trace(tmp_path: Path) -> None:
    said = refused(PORT="eighty", DATA_DIR=str(tmp_path))
    assert said.startswith("error: PORT must be a valid integer")
    assert said.count("\n") == 1


def test_repr_and_dump_show_no_secret(make_settings: MakeSettings) -> None:
    settings = make_settings(openai_api_key="sk-very-hush", qdrant_api_key="hush", aws_secret_access_key="hush")
    assert "hush" not in f"{settings!r}{settings}{settings.model_dump()}"


def test_lexical_search_can_be_set_while_a_chat_model_is_used(make_settings: MakeSettings) -> None:
    settings = make_settings(openai_base_url="http://127.0.0.1:11434/v1", embedding_model="bm25")
    assert not settings.offline
    assert settings.dense_model is None


def test_queue_url_is_the_url_of_the_running_embedded_valkey(make_settings: MakeSettings) -> None:
    settings = make_settings()
    settings.valkey_dir.mkdir(parents=True)
    (settings.valkey_dir / "url").write_text("redis://127.0.0.1:16400")
    assert settings.queue_url == "redis://127.0.0.1:16400"


def test_settings_are_immutable(settings: Settings) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_without_password_hides_passwords_of_urls() -> None:
    assert without_password("redis://user:pa55@host:1/0") == "redis://user:***@host:1/0"
    assert without_password("redis://host:1") == "redis://host:1"
    assert without_password("redis://host:1?db=1&password=pa55") == "redis://host:1?db=1&password=***"


@pytest.mark.parametrize(
    ("env_file", "variables", "expected"),
    [
        ("VALKEY_URL=\nREDIS_URL=redis://file", {}, "redis://file"),
        ("", {"VALKEY_URL": "", "RQ_REDIS_URL": "redis://shell"}, "redis://shell"),
        ("VALKEY_URL=redis://file", {"REDIS_URL": "redis://shell"}, "redis://shell"),
        ("VALKEY_URL=redis://file\nREDIS_URL=redis://other", {}, "redis://file"),
        ("REDIS_URL=redis://file", {"VALKEY_URL": ""}, None),
    ],
)
def test_the_first_variable_with_a_value_counts_and_the_environment_wins(
    env_file: str, variables: dict[str, str], expected: str | None, read_settings: ReadSettings
) -> None:
    assert read_settings(env_file, **variables).valkey_url == expected


def test_an_empty_variable_hides_the_value_in_the_file(read_settings: ReadSettings) -> None:
    assert read_settings("OPENAI_API_KEY=sk-file\nCHAT_MODEL=other", OPENAI_API_KEY="").offline
    assert not read_settings("OPENAI_API_KEY=sk-file").offline
    assert read_settings("CHAT_MODEL=other", OPENAI_API_KEY="").chat_model == "other"
