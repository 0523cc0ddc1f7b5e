"""The version stands in one place, and the documents follow it."""

from __future__ import annotations

import re
import tomllib

from server import create_app
from settings import VERSION
from tests.conftest import MakeSettings
from tests.support.processes import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def test_the_openapi_document_has_the_version(make_settings: MakeSettings) -> None:
    assert create_app(make_settings()).openapi()["info"]["version"] == VERSION


def test_pyproject_takes_the_version_from_the_code() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in pyproject["project"]["dynamic"]
    source = pyproject["tool"]["hatch"]["version"]
    found = re.search(source["pattern"], (ROOT / source["path"]).read_text())
    assert found is not None
    assert found["version"] == VERSION


def test_the_newest_section_of_the_changelog_is_this_version() -> None:
    newest, *others = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    released = re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert newest == "Unreleased" if released is None else newest.startswith(f"{VERSION} - ")
    assert others
    for section in others:
        assert re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", section)


def test_the_image_holds_the_version() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"settings", "*.py", "*"} & set(ignored)
