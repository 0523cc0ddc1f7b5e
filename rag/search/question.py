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
_ABOUT_FORM = re.compile(
    r"\s*(?:please\s+)?(?:directly\s+)?(?:"
    r"(?:write|give|provide|return|express|represent|report|state|format|round|list|save|output)\b.*"
    r"\b(?:answers?|formats?|formatted|integers?|decimals?|digits?|strings?|floats?|numbers?\s+only)\b|"
    r"format\b.*\bas\b|(?:your|the)\s+(?:answer|output|response)s?\s+(?:should|shall|must|needs?|has)\b|"
    r"(?:answer|respond|reply)\s+(?:only\s+|directly\s+)?(?:in|as|with|using|to|yes|['\"‘“(])"
    r")",
    re.IGNORECASE | re.DOTALL,
)
_NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_NUMBER = rf"\(?(\d{{1,5}}|(?:{'|'.join(_NUMBERS)})\b)\)?"
_PAGE = re.compile(
    rf"\b(?:on\s+|at\s+|of\s+)?(?:pages?|pp?\.|slides?)\s*{_NUMBER}(?:\s*(?:-|–|to|and)\s*{_NUMBER})?(?!\w)"
    rf"|\b(?:on\s+|at\s+|of\s+)?(?:the\s+)?({'|'.join(_ORDINALS)}|cover|front|title)\s+(?:page|slide)\b",
    re.IGNORECASE,
)
# What stands on the first page: of such a question its words say little.
_FIRST_PAGE = re.compile(
    r"\b(?:titled?|authors?|authored|wrote|written\s+by|presenters?|presented\s+by|on\s+the\s+cover|"
    r"published|publication|publisher|dated|"
    r"(?:date|subject|version|edition)\s+of\s+th(?:e|is))\b",
    re.IGNORECASE,
)
_MARKS = re.compile(r"\s*[(\[]\s*[)\]]|\s+(?=[.?!,;:])")
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
    pages = None
    if place is not None:
        first = _number(place[1] or place[3])
        pages = (first, max(first, _number(place[2] or place[1] or place[3])))
    text = " ".join(_MARKS.sub("", _PAGE.sub(" ", without_form)).split())
    return SearchedQuestion(
        asked=question,
        text=text if _WORD.search(text) else question,
        pages=pages,
        asks_first_page=bool(_FIRST_PAGE.search(question)),
    )


def _number(word: str) -> int:
    """Return the number that figures or a word stand for; 1 for the cover."""
    if word.isdecimal():
        return int(word)
    of_word = word.lower()
    return next((words.index(of_word) + 1 for words in (_NUMBERS, _ORDINALS) if of_word in words), 1)


def _without_instructions(question: str) -> str:
    """Return the sentences that do not only say how to answer, where another one asks."""
    sentences = [question[start:end] for start, end in sentence_spans(question)]
    asking = [one for one in sentences if not _ABOUT_FORM.match(one)]
    if asking and len(asking) < len(sentences):
        return _without_instructions(" ".join(asking))
    if not any("?" in sentence for sentence in sentences):
        return question
    return " ".join(one for one in sentences if "?" in one or not _INSTRUCTION.match(one))
