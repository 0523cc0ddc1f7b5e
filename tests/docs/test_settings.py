"""docs/settings.md and .env.example are what the settings say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from checks import settings_docs
from settings import Settings, load_settings
from tests.support.processes import ROOT


def test_the_generated_files_are_up_to_date() -> None:
    assert settings_docs.check(ROOT) == []


def test_every_setting_is_described_in_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert re.fullmatch(r"[A-Z`].+\.", field.description or "", re.DOTALL), name


def test_every_setting_belongs_to_one_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    settings_docs.markdown()
    monkeypatch.setitem(settings_docs.TOPICS, "Logs", ("log_level", "log_format", "log_content"))
    with pytest.raises(ValueError, match="audit_log"):
        settings_docs.markdown()


def test_the_example_is_an_environment_file_of_defaults() -> None:
    values = dotenv_values(ROOT / ".env.example")
    assert list(values) == [name.upper() for names in settings_docs.TOPICS.values() for name in names]
    given = {name.lower(): value for name, value in values.items()}
    assert load_settings(_env_file=None, **given) == load_settings(_env_file=None, **dict.fromkeys(given, ""))


def test_a_secret_has_no_example_value() -> None:
    values = dotenv_values(ROOT / ".env.example")
    fields = Settings.model_fields.items()
    secrets = [name for name, field in fields if settings_docs.allowed_values(name, field) == "secret"]
    assert len(secrets) >= 5
    assert not any(values[name.upper()] for name in secrets)


def test_a_file_that_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "settings.md").write_text(settings_docs.markdown())
    (tmp_path / ".env.example").write_text(settings_docs.example().replace("8000", "8001"))
    assert settings_docs.check(tmp_path) == [".env.example is not up to date: run `make docs`"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("port", "0 to 65535"),
        ("max_pages", "1 or more"),
        ("webhook_log_days", "4 to 90 days"),
        ("docs_enabled", "`True`, `False`"),
        ("log_format", "`text`, `json`"),
        ("openai_api_key", "secret"),
        ("qdrant_url", "URL"),
        ("data_dir", "path"),
    ],
)
def test_allowed_values_come_from_the_field(name: str, values: str) -> None:
    assert settings_docs.allowed_values(name, Settings.model_fields[name]) == values
