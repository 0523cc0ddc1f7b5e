"""Which server `ragq` asks, and to whom it sends a key."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ragq.config import Config, config_path, load_config, write_config
from ragq.errors import ConfigError
from server import create_app
from settings import Settings
from tests.ragq.conftest import ragq
from tests.support.openai_stub import serving


@dataclass(frozen=True)
class Guarded:
    """An API that wants a key, and one."""

    url: str
    key: str


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Guarded]:
    with serving(create_app(settings)) as url:
        made = httpx.post(f"{url}/keys", json={"name": "operator", "scopes": ["admin", "query", "upload"]})
        yield Guarded(url, made.json()["key"])


def test_login_saves_a_key_that_works_and_only_its_owner_reads(guarded: Guarded) -> None:
    refused = ragq("ls", url=guarded.url)
    assert refused.exit_code == 4
    assert "ragq login" in refused.stderr
    wrong = ragq("login", guarded.url, url="", text="sk-wrong\n")
    assert wrong.exit_code == 4
    assert not config_path().exists()
    done = ragq("login", guarded.url, url="", text=f"{guarded.key}\n")
    assert done.exit_code == 0, done.stderr
    assert "and may" in done.stdout
    assert guarded.key not in done.stdout
    assert stat.S_IMODE(config_path().stat().st_mode) == 0o600
    assert ragq("ls", url="").exit_code == 0
    assert ragq("login", guarded.url, url="", text=f"{guarded.key}\n").exit_code == 0  # again
    assert load_config() == Config(guarded.url, guarded.key)


def test_a_key_that_others_may_read_is_not_used(guarded: Guarded) -> None:
    write_config(config_path(), Config(guarded.url, guarded.key))
    config_path().chmod(0o640)
    done = ragq("ls", url="")
    assert done.exit_code == 2
    assert f"chmod 600 {config_path()}" in done.stderr


def test_a_saved_key_goes_to_its_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(config_path(), Config("https://rag.example", "saved"))
    assert load_config() == Config("https://rag.example", "saved")
    assert load_config("https://rag.example/") == Config("https://rag.example", "saved")
    assert load_config("https://other.example") == Config("https://other.example", None)
    monkeypatch.setenv("RAGQ_URL", "http://rag.example")
    assert load_config() == Config("http://rag.example", None)
    monkeypatch.setenv("RAGQ_API_KEY", "given")
    assert load_config() == Config("http://rag.example", "given")
    assert load_config(api_key="") == Config("http://rag.example", None)
    assert "given" not in repr(load_config())


@pytest.mark.parametrize(
    "url", ["rag.example", "ftp://rag.example", "http://", "http://a:b@c", "http://a?b=c", "http://a:x"]
)
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        load_config(url)
    assert ragq("ls", url=url).exit_code == 2


@pytest.mark.parametrize("text", ["url = ", "url = 7", "api_key = ['a']", 'api_key = "a b"', "\0"])
def test_a_wrong_config_file_is_refused(text: str, tmp_path: Path) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text(text)
    config_path().chmod(0o600)
    with pytest.raises(ConfigError):
        load_config()
    assert tmp_path in config_path().parents
