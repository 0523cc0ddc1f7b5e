"""What a question names by number, such as "Table 5", or by a phrase in quotation marks, and the texts that show it."""

from __future__ import annotations

import re
from dataclasses import dataclass

# So many named things are looked for: a question that names more is about no one place.
MAX_NAMED_THINGS = 5
MAX_PHRASE_CHARS = 200
# What documents number, as one pattern for each kind, in the languages of the messages. "Fig. 5" shows "Figure 5".
_KINDS = (
    r"tab(?:les?|elle|lea|leau|la|ela|ella|el)|tab\.|[表]",
    "fig(?:ures?|ura|uur)?|abb(?:ildung)?|[图図圖]",
    "exhibits?",
    "charts?|graphs?|diagrams?",
    "append(?:ix|ices)|annex(?:e|es)?|anhang|anexo|allegato|bijlage",
    "sections?|abschnitt|sección|seção|sezione|paragraaf|§",
    "chapters?|kapitel|chapitre|cap[ií]tulo|capitolo|hoofdstuk",
)
_SIGN = r"(?i:no\.?\s*|nr\.?\s*|#\s*)?"
# The letter I alone is no number: "the figures I saw" name none.
_NUMBER = r"(\d{1,3}(?:[.\-–]\d{1,3})*[A-Za-z]?|[A-HJ-Z](?:[.\-–]?\d{1,3})*(?!\.?[A-Z])|[IVX]{2,})(?![A-Za-z\d])"
_NAMED = [re.compile(rf"(?<![A-Za-zÀ-ÿ])(?i:{kind})\.?\s*{_SIGN}\(?{_NUMBER}") for kind in _KINDS]
# The kinds whose title often has the number alone, as in "3.2 Results".
_MAY_STAND_ALONE = {len(_KINDS) - 2, len(_KINDS) - 1}
# A phrase of two words or more between quotation marks.
_PHRASE = rf"[^\W_][^\n{{0}}]{{{{0,{MAX_PHRASE_CHARS}}}}}?\s[^\n{{0}}]{{{{0,{MAX_PHRASE_CHARS}}}}}?"
_MARKS = (('"', '"'), ("“", "”"), ("‘", "’"), ("'", "'"), ("«", "»"), ("»", "«"), ("„", "“"))
_QUOTED = re.compile("|".join(rf"(?<!\w){start}({_PHRASE.format(start + end)}){end}(?!\w)" for start, end in _MARKS))


@dataclass(frozen=True, slots=True)
class Caption:
    """A table, figure, section or phrase as a question names it, and the pattern of a text that shows it."""

    name: str
    shown: re.Pattern[str]


def named_captions(question: str) -> list[Caption]:
    """Return what a question names by number, and the phrases that it quotes, each once; none of too many."""
    numbered = {(kind, match[1]): match[0] for kind, name in enumerate(_NAMED) for match in name.finditer(question)}
    phrases = list(dict.fromkeys(next(filter(None, match.groups())) for match in _QUOTED.finditer(question)))
    if len(numbered) + len(phrases) > MAX_NAMED_THINGS:
        return []
    return [
        *(Caption(name, _shown(kind, number)) for (kind, number), name in numbered.items()),
        *(Caption(phrase, _phrase(phrase)) for phrase in phrases),
    ]


def _phrase(phrase: str) -> re.Pattern[str]:
    """Return the pattern of a phrase, whatever the case and the line ends."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def _shown(kind: int, number: str) -> re.Pattern[str]:
    """Return the pattern of a caption: at the start of a line or after a sentence, with no small letter after it."""
    exact = re.escape(number)
    named = rf"(?i:{_KINDS[kind]})\.?\s*{_SIGN}\(?{exact}(?![\w–-])(?!\.\d)(?!\)?,?\s+[a-zß-öø-ÿ])"
    bare = rf"|{exact}\.?(?![\w.–-])[ \t]+(?=[A-ZÀ-ÖØ-Þ])" if kind in _MAY_STAND_ALONE and "." in number else ""
    return re.compile(rf"(?:^|(?<=[.!?:;)]\s))[ \t]*(?:{named}{bare})", re.MULTILINE)
