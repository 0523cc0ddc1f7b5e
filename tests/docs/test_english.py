"""Phrases that readers had to read twice stay out of code and documents."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.processes import ROOT

# Pattern → what to write instead. Keep the list short: a word list cannot judge English.
PHRASES = {
    r"\bTell whether\b": "Return True if …",
    r"\b[Aa]new\b": "again",
    r"\b(that|which|it|one) is none\b": "the noun: `an id that is invalid`",
    r"\bbe it\b": "whether … or …",
}
SUFFIXES = {".py", ".md", ".lua", ".yml", ".yaml", ".sh", ".toml"}
NOT_OURS = {".venv", ".venv-bench", ".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "data"}
QUOTING = {"CONTRIBUTING.md", "tests/docs/test_english.py"}


def texts() -> dict[str, str]:
    """Return the text of each file of the project by its path."""
    paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.suffix in SUFFIXES]
    ours: list[Path] = [path for path in paths if path.parts[0] not in NOT_OURS and str(path) not in QUOTING]
    return {str(path): (ROOT / path).read_text() for path in ours if (ROOT / path).is_file()}


def test_phrases_to_read_twice_are_not_used() -> None:
    found = []
    for name, text in texts().items():
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{name}:{number}: {better}" for phrase, better in PHRASES.items() if re.search(phrase, line)]
    assert found == []
