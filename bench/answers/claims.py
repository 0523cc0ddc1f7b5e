"""Claims about passages: some are for tuning the check of citations, and the others are locked away."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rag.citations.exact import locate_quotation
from rag.text.normalize import sentence_spans

FOLDER = Path(__file__).parent
TRUE = ("light", "heavy", "translated")
FALSE = ("number", "negation", "exchange", "unit", "date")
OTHER_SOURCE = "other source"
OTHER_PART = "other part"
REFUSAL = "refusal"
# The passages of other documents that a model was given, too.
BESIDE = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a kind, cited to a passage. `words` are those that a model would quote for it.

    `beside` are the other passages that the model was given. Refusals have a question.
    """

    kind: str
    text: str
    words: str
    passage: str
    beside: tuple[str, ...] = ()
    question: str = ""

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
    claims: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def halves(self) -> tuple[str, str]:
        """The text, cut at the end of the sentence nearest to its middle."""
        text = self.text
        cut = min((end for _, end in sentence_spans(text)), key=lambda end: abs(end - len(text) // 2))
        return text[:cut], text[cut:]


def read_claims(name: str) -> list[Claim]:
    """Return the claims of a file. Each true claim stands there again with another document, as `other source`.

    It stands there a third time with the half of its passage that does not say it, beside the half that does, as
    `other part`; unless the words for it reach into both. Each claim has BESIDE passages of other documents beside it.
    """
    excerpts = read_excerpts(FOLDER / name)
    claims = []
    for number, excerpt in enumerate(excerpts):
        first, *beside = [other.text for other in other_excerpts(excerpts, number)[: BESIDE + 1]]
        halves = excerpt.halves
        for kind, text, words, question in excerpt.claims:
            claims.append(Claim(kind, text, words, excerpt.text, (first, *beside[1:]), question))
            if kind not in TRUE:
                continue
            claims.append(Claim(OTHER_SOURCE, text, words, first, (excerpt.text, *beside[1:])))
            saying = [locate_quotation(words, half) is not None for half in halves]
            if sum(saying) == 1:
                other, right = halves[saying.index(False)], halves[saying.index(True)]
                claims.append(Claim(OTHER_PART, text, words, other, (right, *beside[1:])))
    return claims


def other_excerpts(excerpts: list[Excerpt], number: int) -> list[Excerpt]:
    """Return the other excerpts in the same language, then those in other languages, each from the next one on."""
    others = excerpts[number + 1 :] + excerpts[:number]
    return sorted(others, key=lambda other: other.language != excerpts[number].language)


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
            claim, words, question = (part.strip() for part in f"{rest} // //".split("//")[:3])
            excerpts[-1].claims.append((kind, claim, words, question))
    return excerpts
