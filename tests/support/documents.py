"""The project's documents, and the commands and scripts in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
USER_DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One shell command, or one whole block of another language."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def snippets(path: Path) -> list[Snippet]:
    """Return the fenced blocks of a document: of `sh` each command without its comment, of others the block."""
    text, name = path.read_text(), str(path.relative_to(ROOT))
    found = []
    for block in _BLOCK.finditer(text):
        language, content = block[1], block[2]
        first = text.count("\n", 0, block.start(2)) + 1
        if language != "sh":
            found.append(Snippet(name, first, language, content))
            continue
        for offset, line in enumerate(content.splitlines()):
            command = re.split(r"\s{2,}#", line)[0].strip()
            if command:
                found.append(Snippet(name, first + offset, language, command))
    return found


def all_snippets(language: str) -> list[Snippet]:
    """Return the snippets of one language in README.md and docs/."""
    return [snippet for path in USER_DOCUMENTS for snippet in snippets(path) if snippet.language == language]
