"""What a question asks for: the words to search by, and the places it names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rag.text.normalize import sentence_spans

# How an answer is wished for, and where: no passage is found by these words.
_FORM = re.compile(
    r"""
    \(?\b(?:answer|output|response|date)?\s*format\s*:[^\n.?!;)]*\)?          # Format: YYYY-MM-DD
    | (?:^|(?<=[.?!:;(\n]))\s*(?:please\s+)?(?:answer|respond|reply)\s+(?:only\s+)?(?:in|as|with|using)\b[^.?!:;)\n]*
    | \b(?:please\s+)?(?:give|provide)\s+(?:a|an|the|your)\s+(?:response|answer)(?:\s+to\s+th(?:e|is)\s+question)?
    | \bby\s+relying\s+on\s+the\s+details\s+shown\b
    | \b(?:in|from|of|by|to|on|with)\s+(?:this|the\s+(?:given|provided|attached|uploaded|above))\s+
      (?:document|file|pdf|text|report|paper|article|page|passage)s?\b
    | \b(?:in|from|of|by|to)\s+the\s+(?:document|file|pdf)s?\b
    | \bYYYY\b(?:[-/.]?\bMM\b)?(?:[-/.]?\bDD\b)?
    | \b(?:as\s+)?an?\s+integer\b
    | \bin\s+(?:US\s+|U\.S\.\s+)?dollars\b
    | \bin\s+[A-Z]{3}\s+(?:thousand|million|billion)\b
    | \bin\s+(?:[A-Z]{3}\s+)?(?:thousand|million|billion)s(?:\s+of\s+dollars)?(?=\s*(?:[).?!,;:]|$))
    | \b(?:rounded|round)\s+(?:your\s+answer\s+)?to\s+(?:the\s+nearest\s+)?\w+(?:\s+decimal(?:\s+place)?s?)?\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
# A sentence that says how to answer, such as "If that is not a useful metric, then state that and explain why."
_INSTRUCTION = re.compile(
    r"\s*(?:if\b.*\b(?:state|say|explain|answer|reply|respond|tell)\b|(?:assume|suppose|imagine|pretend)\b|you\s+are\b|"
    r"please\b|(?:explain|show|justify)\s+(?:why|how|your)\b)",
    re.IGNORECASE | re.DOTALL,
)
# A sentence about the form of the answer alone, such as "Round your answer to three decimal places."
_OF_ANSWER = r"(?:(?:your|the|all|each)\s+){0,2}(?:final\s+)?(?:answers?|responses?|outputs?|results?)\b"
_IN_FORM = (
    r"(?:as|in|into|to|with)\s+(?:an?\s+|the\s+)?(?:\w+\s+)?(?:formats?|ints?|integers?|floats?|decimals?|strings?)\b"
)
_ABOUT_FORM = re.compile(
    rf"\s*(?:please\s+)?(?:directly\s+)?(?:"
    rf"(?:write|give|provide|return|express|represent|report|state|format|round|list|enumerate|save|put)\s+(?:down\s+)?"
    rf"(?:{_OF_ANSWER}|(?:\w+\s+){{0,5}}{_IN_FORM}|me\s+an?\s+(?:\w+\s+)?(?:integer|number|list|string)\b)|"
    rf"round\s+(?:it|to)\b|format\s+the\s+(?:date|number|time)s?\s+as\b|"
    rf"your\s+(?:answer|output|response)s?\s+(?:should|shall|must|needs?|has)\b|"
    rf"the\s+answers?\s+(?:should|shall|must|needs?\s+to)\s+be\b|"
    rf"(?:answer|respond|reply)\s+(?:only\s+|directly\s+)?(?:in|as|with|using|yes|['\"‘“(])"
    rf")",
    re.IGNORECASE,
)
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_NUMBERS = {word: number for words in (_WORDS, _ORDINALS) for number, word in enumerate(words, 1)}
# A number in words stands before the end of its clause: "the page one sees first" names no page.
_ENDS_CLAUSE = r"(?=\s*(?:$|[.,;:?!)]|and\b|to\b|say|show|ha[sv]e?\b|is\b|are\b))"
_NUMBER = rf"(?:\(\d{{1,5}}\)|\d{{1,5}}|(?:{'|'.join(_WORDS)}){_ENDS_CLAUSE})"
_PAGE = re.compile(
    rf"\b(?:on\s+|at\s+|of\s+)?(?:pages?|pp?\.|slides?)\s*(?P<numbers>{_NUMBER}"
    rf"(?:\s*(?:[-–—&]|to\b|and\b)\s*{_NUMBER}|(?<=\d)\s*,\s*(?:and\s+)?\d{{1,3}}(?![\d,]))*)(?![\w-])"
    rf"|\b(?:on\s+|at\s+|of\s+)?(?:the\s+)?(?P<ordinal>{'|'.join(_ORDINALS)})\s+(?:page|slide)\b"
    rf"(?!\s+of\s+(?:the\s+)?\w)"
    rf"|\b(?:on|at|of)\s+the\s+(?P<cover>cover|title\s+(?:page|slide))\b(?:\s+page\b)?",
    re.IGNORECASE,
)
# What stands on the first page: of such a question its words say little.
_FIRST_PAGE = re.compile(
    r"\b(?:titled?|authors?|authored|wrote|written\s+by|presenters?|presented\s+by|on\s+the\s+cover|"
    r"published|publication|publisher|dated|"
    r"(?:date|subject|version|edition)\s+of\s+th(?:e|is))\b",
    re.IGNORECASE,
)
_MARKS = re.compile(r"\s*[(\[]\s*(?:see\s*)?[)\]]|\s+(?=[.?!,;:])")
_WORD = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class SearchedQuestion:
    """A question as it is searched for.

    `asked` is the question, `text` the question without the form of the answer and without places. `pages` are the
    first and the last page that it names; None for none. `asks_first_page`: about a title, an author, a date.
    """

    asked: str
    text: str
    pages: tuple[int, int] | None = None
    asks_first_page: bool = False


def read_question(question: str) -> SearchedQuestion:
    """Return what to search for. A question of nothing but form is searched for as it is."""
    without_form = _FORM.sub(" ", _without_instructions(question))
    place = _PAGE.search(without_form)
    text = " ".join(_MARKS.sub("", " ".join(_PAGE.sub(" ", without_form).split())).split())
    return SearchedQuestion(
        asked=question,
        text=text if _WORD.search(text) else question,
        pages=None if place is None else _pages(place),
        asks_first_page=bool(_FIRST_PAGE.search(question)),
    )


def _pages(place: re.Match[str]) -> tuple[int, int]:
    """Return the first and the last page that a question names; page 1 for the cover."""
    words = re.findall(r"\w+", (place["numbers"] or place["ordinal"] or "one").lower())
    numbers = [int(word) if word.isdecimal() else _NUMBERS[word] for word in words if word not in {"to", "and"}]
    return min(numbers), max(numbers)


def _without_instructions(question: str) -> str:
    """Return the sentences that do not only say how to answer, where another one asks."""
    every = [question[start:end] for start, end in sentence_spans(question)]
    sentences = [one for one in every if "?" in one or not _ABOUT_FORM.match(one)] or every
    if not any("?" in sentence for sentence in sentences):
        return question if sentences == every else " ".join(sentences)
    return " ".join(one for one in sentences if "?" in one or not _INSTRUCTION.match(one))
