"""Tables, figures and sections that a question names by number, such as "Table 5", and the texts that show them."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What documents number, as one pattern for each kind, in the languages of the messages. "Fig. 5" shows "Figure 5".
_KINDS = (
    "tab(?:les?|elle|lea|leau|la|ela|ella|el)?",
    "fig(?:ures?|ura|uur)?|abb(?:ildung)?|[图図圖]",
    "exhibits?",
    "charts?|graphs?|diagrams?",
    "append(?:ix|ices)|annex(?:e|es)?|anhang|anexo|allegato|bijlage",
    "sections?|abschnitt|sección|secci[oó]n|seção|sezione|paragraaf|§",
    "chapters?|kapitel|chapitre|cap[ií]tulo|capitolo|hoofdstuk",
)
_NUMBER = r"\(?(\d+(?:[.\-–]\d+)*[a-z]?|[A-Z](?:[.\-–]?\d+)*|[IVX]+)(?!\w)"
_NAMED = [re.compile(rf"(?<!\w)(?i:{kind})\.?\s*{_NUMBER}") for kind in _KINDS]
# The kinds whose title often has the number alone, as in "3.2 Results".
_BARE = {len(_KINDS) - 2, len(_KINDS) - 1}

# A phrase of two words or more between quotation marks.
_PHRASE = r"[^\W_][^\n{0}]*?\s[^\n{0}]*?"
_QUOTED = re.compile(
    "|".join(
        rf"(?<!\w){start}({_PHRASE.format(start + end)}){end}(?!\w)"
        for start, end in ('""', "“”", "‘’", "''", "«»", "„“")
    )
)


@dataclass(frozen=True, slots=True)
class Caption:
    """A table, figure or section as a question names it, and the pattern of a text that shows it."""

    name: str
    shown: re.Pattern[str]


def named_captions(question: str) -> list[Caption]:
    """Return what a question names by number, each once."""
    found: dict[tuple[int, str], Caption] = {}
    for kind, (words, named) in enumerate(zip(_KINDS, _NAMED, strict=True)):
        for match in named.finditer(question):
            found.setdefault((kind, match[1]), Caption(match[0], _shown(words, match[1], bare=kind in _BARE)))
    quoted = [next(filter(None, match.groups())) for match in _QUOTED.finditer(question)]
    return [*found.values(), *(Caption(phrase, _phrase(phrase)) for phrase in dict.fromkeys(quoted))]


def _phrase(phrase: str) -> re.Pattern[str]:
    """Return the pattern of a phrase, whatever the case and the line ends."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def _shown(words: str, number: str, *, bare: bool) -> re.Pattern[str]:
    """Return the pattern of a caption: at the start of a line or after a sentence, with no small letter after it."""
    exact = re.escape(number)
    named = rf"(?i:{words})\.?\s*\(?{exact}(?![\w–-])(?!\.\d)(?!\)?,?\s+[a-zß-öø-ÿ])"
    alone = rf"|{exact}\.?(?![\w.–-])[ \t]+(?=[A-ZÀ-ÖØ-Þ])" if bare and "." in number else ""
    return re.compile(rf"(?:^|(?<=[.!?:;)]\s))[ \t]*(?:{named}{alone})", re.MULTILINE)
