"""The environment that libraries read: what is removed from it, and proxies and certificates that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import httpx
import httpx2
import pytest

from client.llm.provider import OPENAI_URL as CLIENT_URL
from errors import SettingsError
from settings import Settings, load_settings
from settings.environment import OPENAI_URL, is_removed
from tests.support.library_variables import sending_variables
from tests.support.processes import refused

# Reason → variables that packages know and that stay. A new name after an upgrade needs a line here, or in
# settings/environment.py.
STAY = {
    "a proxy, which is honoured": {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"},
    "another name of VALKEY_URL": {"REDIS_URL", "RQ_REDIS_URL"},
    "read by clients that the service does not make": {
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_BEDROCK_BASE_URL",
        "AZURE_FEDERATED_TOKEN_FILE",
        "EARTHDATA_HOST",
        "EARTHDATA_TOKEN",
        "GOOGLE_CLOUD_PROJECT",
        "PC_SDK_SAS_URL",
        "PC_SDK_SUBSCRIPTION_KEY",
        "TQDM_DISCORD_TOKEN",
        "TQDM_SLACK_TOKEN",
        "TQDM_TELEGRAM_TOKEN",
        "WEBSOCKETS_MAX_NUM_HEADERS",
        "WEBSOCKETS_SERVER",
    },
    "a constant of that package, not a variable": {
        "CHATGPT_AUTHORIZE_URL",
        "CHATGPT_TOKEN_URL",
        "CURLOPT_URL",
        "DEFAULT_EARTHDATA_HOST",
        "GCP_PROJECT",
        "HOST_GNU_TYPE",
        "REDIS_HOST",
        "ROOT_KEY",
        "SERVER",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "TRAVIS_APT_PROXY",
        "URL",
    },
}
# Of these the service uses the reader of PDF files alone.
UNUSED_INTEGRATIONS = {"langchain-community", "langchain-classic"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
MODEL = {"openai_base_url": "http://model.example:11434/v1"}

Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Return a function that reads settings where only these variables of proxies and certificates are set."""
    before = dict(os.environ)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name in [*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"]:
        os.environ.pop(name, None)

    def load(values: dict[str, object], **variables: str) -> Settings:
        os.environ.update(variables)
        return load_settings(**values)

    yield load
    os.environ.clear()
    os.environ.update(before)


def test_reading_the_settings_removes_the_variables_of_libraries(load: Load) -> None:
    gone = ("LANGSMITH_TRACING", "LANGCHAIN_ENDPOINT", "OPENAI_ORG_ID", "OPENAI_PROXY", "AWS_ENDPOINT_URL_S3", "PGHOST")
    stay = ("LC_ALL", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SSE_KMS_KEY_ID", "PGPASSWORD", "PATH")
    load({}, **dict.fromkeys(gone, "x"), **{name: os.environ.get(name, "x") for name in stay})
    assert [name for name in gone if name in os.environ] == []
    assert [name for name in stay if name not in os.environ] == []


def test_a_setting_keeps_its_variable(load: Load) -> None:
    settings = load({}, OPENAI_API_KEY="sk-1", QDRANT_URL="http://q:6333", AWS_ENDPOINT_URL="http://s3:9000")
    assert (settings.qdrant_url, settings.aws_endpoint_url) == ("http://q:6333", "http://s3:9000")
    assert os.environ["OPENAI_API_KEY"] == "sk-1"  # worker processes read it


def test_every_variable_of_the_locked_packages_is_removed_or_known_to_be_harmless() -> None:
    documented = {name.upper() for name in Settings.model_fields}
    left = {
        name: packages
        for name, packages in sending_variables().items()
        if not is_removed(name) and name not in documented and packages - UNUSED_INTEGRATIONS
    }
    assert {"LANGSMITH_ENDPOINT", "LANGCHAIN_TRACING_V2", "OPENAI_ORG_ID"} <= sending_variables().keys()
    assert left.keys() == set().union(*STAY.values())


def test_the_default_address_of_the_provider_is_the_one_that_the_client_uses() -> None:
    assert OPENAI_URL == CLIENT_URL


@pytest.mark.parametrize(
    ("name", "proxy", "words"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:7890", "names a SOCKS proxy, which is not supported"),
        ("http_proxy", "socks5h://p:1", "names a SOCKS proxy, which is not supported"),
        ("HTTP_PROXY", "nonsense:x", "must be the URL of an HTTP proxy"),
        ("HTTP_PROXY", "ftp://proxy.example", "must be the URL of an HTTP proxy"),
        ("HTTP_PROXY", "http://", "must be the URL of an HTTP proxy"),
        ("HTTP_PROXY", "http://pa55@[::1", "must be the URL of an HTTP proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_stops_the_start(name: str, proxy: str, words: str, load: Load) -> None:
    with pytest.raises(SettingsError, match=f"{name} {words}.*, and OPENAI_BASE_URL would use it") as refusal:
        load(MODEL, **{name: proxy})
    assert "pa55" not in refusal.value.detail


@pytest.mark.parametrize(
    ("values", "variables"),
    [
        ({}, {"ALL_PROXY": "socks5://p:1"}),
        (MODEL, {"ALL_PROXY": "socks5://p:1", "NO_PROXY": "localhost, model.example"}),
        (MODEL, {"ALL_PROXY": "socks5://p:1", "HTTP_PROXY": "http://p:3128"}),
        (MODEL, {"HTTPS_PROXY": "nonsense:x"}),
        (MODEL, {"HTTPS_PROXY": "nonsense:x", "https_proxy": "nonsense:x"}),
    ],
)
def test_a_proxy_that_nothing_would_use_does_not_matter(
    values: dict[str, object], variables: dict[str, str], load: Load
) -> None:
    load(values, **variables)
    if values:
        httpx.Client().close()
        httpx2.Client().close()


@pytest.mark.parametrize(
    "proxy", ["http://user:pa55@proxy.example:3128", "proxy.example:3128", "https://proxy.example"]
)
def test_a_proxy_that_can_be_used_stays(proxy: str, load: Load) -> None:
    load(MODEL, HTTP_PROXY=proxy)
    assert os.environ["HTTP_PROXY"] == proxy
    httpx2.Client().close()


def test_entries_of_no_proxy_that_httpx_cannot_parse_are_left_out(load: Load) -> None:
    entries = "localhost,127.0.0.1,[::1],::1/128,fd00::/8,10.0.0.0/8,.svc.example,*.local,host:8080,a b,x:y,é"
    load(MODEL, NO_PROXY=entries, no_proxy="[::1]:80")
    left = "localhost,127.0.0.1,::1,::1,10.0.0.0/8,.svc.example,*.local,host:8080"
    assert (os.environ["NO_PROXY"], os.environ["no_proxy"]) == (left, "")
    for no_proxy in (left, "*"):
        os.environ["no_proxy"] = no_proxy
        httpx.Client().close()


def test_certificates_that_cannot_be_read_stop_the_start(load: Load, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for wrong in ("/nowhere.pem", str(tmp_path), str(tmp_path / "empty.pem")):
        with pytest.raises(SettingsError, match="SSL_CERT_FILE must name a readable PEM file"):
            load(MODEL, SSL_CERT_FILE=wrong)
    load({}, SSL_CERT_FILE="/nowhere.pem")  # offline nothing uses it
    load(MODEL, SSL_CERT_FILE=certifi.where(), SSL_CERT_DIR=f"/nowhere{os.pathsep}{tmp_path}")
    with pytest.raises(SettingsError, match="SSL_CERT_DIR must name a folder"):
        load(MODEL, SSL_CERT_DIR="/nowhere")


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:7890"), ("http_proxy", "nonsense:x"), ("SSL_CERT_FILE", "/nowhere.pem")],
)
def test_main_says_in_one_sentence_which_variable_is_wrong(name: str, value: str) -> None:
    said = refused(OPENAI_BASE_URL="http://model.example/v1", **{"NO_PROXY": "", "no_proxy": "", name: value})
    assert said.startswith(f"error: {name} ")
    assert said.count("\n") == 1
