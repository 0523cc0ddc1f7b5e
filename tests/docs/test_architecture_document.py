"""ARCHITECTURE.md has a line for every module and names nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.processes import ROOT
from tests.test_architecture import FILES, FLOORS, RAGQ_FILES

DOCUMENT = (ROOT / "ARCHITECTURE.md").read_text()
CHECKED = [path for path in [*FILES, *RAGQ_FILES] if path.name != "__init__.py"]


def described_modules() -> list[Path]:
    """Return the modules in the first column of the tables, with the folder of the heading above each table."""
    folder, found = ROOT, []
    for line in DOCUMENT.splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"### `(.+)/`", line)
            folder = ROOT / heading[1] if heading else ROOT
        elif row := re.match(r"\| `([\w/]+\.py)` \| .+ \|$", line):
            found.append(folder / row[1])
    return found


def test_every_module_has_one_line() -> None:
    assert sorted(described_modules()) == sorted(CHECKED)


def test_every_lua_script_is_named() -> None:
    scripts = {path.name for path in ROOT.rglob("*.lua") if not {".venv", ".venv-bench"} & set(path.parts)}
    assert set(re.findall(r"`(?:[\w/]+/)?(\w+\.lua)`", DOCUMENT)) == scripts


def test_every_line_says_what_to_change() -> None:
    lines = re.findall(r"^\| `[\w/]+\.py` \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert all(line.endswith(".") for line in lines)
    assert len(set(lines)) == len(lines)


def test_the_picture_of_imports_is_that_of_the_rules() -> None:
    picture = re.search(r"^```\n(main  index.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert picture is not None
    floors = [set(re.split(r"\s{4,}", line)[0].split()) for line in picture[1].splitlines()]
    assert floors == FLOORS[""][::-1]


def test_folders_beside_the_program_are_named() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in "._"}
    named = set(re.findall(r"`(\w+)/", DOCUMENT))
    assert folders - {"data"} <= named


def test_paths_in_the_text_exist() -> None:
    paths = set(re.findall(r"`((?:\w+/)+\w+\.\w+)`", DOCUMENT))
    assert [path for path in paths if not ((ROOT / path).exists() or list(ROOT.glob(f"client/*/{path}")))] == []
