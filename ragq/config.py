"""Which server is asked, and with which key: from arguments, variables, or the config file.

The config file holds `url` and `api_key` as TOML. Its key is sent to its URL alone.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ragq.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Config:
    """A server's URL without a slash at its end, and the key for it."""

    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)


def folder() -> Path:
    """Return the folder of the config file: ~/.config/ragq on Linux; where the system keeps such files on others."""
    import click  # a program that brings its own URL does not need it

    return Path(click.get_app_dir("ragq"))


def config_path() -> Path:
    return folder() / "config.toml"


def load_config(url: str | None = None, api_key: str | None = None) -> Config:
    """Return the config. Arguments win over RAGQ_URL and RAGQ_API_KEY, which win over the file. Raises ConfigError.

    `api_key` "" sends no key.
    """
    url = url or os.environ.get("RAGQ_URL")
    api_key = api_key if api_key is not None else os.environ.get("RAGQ_API_KEY")
    saved = Config() if url and api_key is not None else read_config(config_path())
    chosen = check_url(url) if url else saved.url
    if api_key is None and chosen == saved.url:
        api_key = saved.api_key
    return Config(chosen, check_key(api_key) if api_key else None)


def read_config(path: Path) -> Config:
    """Read the config file; the defaults without one. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            values = tomllib.load(file)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML ({error}): delete it and run `ragq login`") from error
    api_key = _text(values, "api_key", path)
    if api_key and os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"others may read the key in {path}: run `chmod 600 {path}`")
    return Config(check_url(_text(values, "url", path) or DEFAULT_URL), api_key)


def write_config(path: Path, config: Config) -> None:
    """Write the config file, which only its owner may read."""
    lines = [f"url = {json.dumps(config.url, ensure_ascii=False)}\n"]
    if config.api_key is not None:
        lines.append(f"api_key = {json.dumps(config.api_key)}\n")
    write_private(path, "".join(lines))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
    unfinished.replace(path)


def _text(values: dict[str, Any], name: str, path: Path) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{name} in {path} must be a text in quotes")
    return value


def check_url(url: str) -> str:
    """Return a URL without a slash at its end. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"the URL of the server is wrong ({error}): it looks like {DEFAULT_URL}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"the URL of the server must begin with http:// or https://, such as {DEFAULT_URL}")
    if parts.username or parts.query or parts.fragment:
        raise ConfigError("the URL of the server has parts that it must not have: give a key in RAGQ_API_KEY")
    return url.rstrip("/")


def check_key(api_key: str) -> str:
    """Return a key without spaces around it. Raises ConfigError for one that no header can hold."""
    api_key = api_key.strip()
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigError("the API key has characters that no key has: copy it again")
    return api_key
