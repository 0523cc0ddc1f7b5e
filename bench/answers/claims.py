"""Claims about passages: some are for tuning the check of citations, and the others are locked away."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
TRUE = ("light", "heavy", "translated")
FALSE = ("number", "negation", "exchange", "unit", "date")
OTHER_SOURCE = "other source"
REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a kind, cited to a passage; `words` are those that a model would quote for it, from `words_of`."""

    kind: str
    text: str
    words: str
    passage: str

    @property
    def is_true(self) -> bool:
        return self.kind in TRUE


@dataclass(slots=True)
class Excerpt:
    """A passage of a document, with claims about it."""

    document: str
    language: str
    origin: str
    lines: list[str] = field(default_factory=list)
    claims: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def read_claims(name: str) -> list[Claim]:
    """Return the claims of a file; each true claim stands there again with another passage, as `other source`."""
    excerpts = read_excerpts(FOLDER / name)
    claims = []
    for number, excerpt in enumerate(excerpts):
        other = other_excerpt(excerpts, number).text
        for kind, text, words in excerpt.claims:
            claims.append(Claim(kind, text, words, excerpt.text))
            if kind in TRUE:
                claims.append(Claim(OTHER_SOURCE, text, words, other))
    return claims


def other_excerpt(excerpts: list[Excerpt], number: int) -> Excerpt:
    """Return the next excerpt in the same language, or else the next of all."""
    others = excerpts[number + 1 :] + excerpts[:number]
    return next((other for other in others if other.language == excerpts[number].language), others[0])


def read_excerpts(path: Path) -> list[Excerpt]:
    excerpts: list[Excerpt] = []
    for line in path.read_text().splitlines():
        if line.startswith("@ "):
            document, language, origin = line[2:].split(" | ")
            excerpts.append(Excerpt(document, language, origin))
        elif line.startswith("> "):
            excerpts[-1].lines.append(line[2:])
        elif line and not line.startswith("#"):
            kind, _, rest = line.partition(": ")
            claim, _, words = rest.partition(" //")
            excerpts[-1].claims.append((kind, claim, words.strip()))
    return excerpts
