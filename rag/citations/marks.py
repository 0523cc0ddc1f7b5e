"""The `[n]` marks of an answer: find them in every form that models write, and remove some from the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_RANGE = 50
# A longer number names no source and is not parsed.
_MAX_DIGITS = 6
_SOURCE = r"(?:sources?|quellen?|fuentes?|fonti|fontes?|bron(?:nen)?|documents?|docs?|passages?|refs?)"
_NUMBERS = r"\d+(?:\s{0,3}(?:[,;–-]|&|and\b|und\b|et\b|y\b|e\b|en\b)\s{0,3}\d+)*"
# After the numbers: a page, or the text that some models add after a dagger.
_PLACE = (
    r"(?:\s{0,3}[,:;]\s{0,3}(?:pp?|pages?|s|seiten?|página|pagina|pág|blz)\.?\s{0,3}\d+(?:[–-]\d+)?)?"
    r"(?:†[^\]】]{0,200})?"
)
_MARK = re.compile(
    rf"(?<!\s)(?P<space>\s*)(?:\\?[\[［【〔]\s{{0,3}}\^?(?:{_SOURCE}\s{{0,3}})?[#:]?\s{{0,3}}"
    rf"(?P<numbers>[-−]\d+|{_NUMBERS}){_PLACE}\s{{0,3}}\\?[\]］】〕]"
    rf"|\(\s?{_SOURCE}\s{{0,3}}(?P<named>{_NUMBERS})\s?\))",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-−]?\d+")
_RANGE = re.compile(r"(\d+)\s*[–-]\s*(\d+)")
_BETWEEN_MARKS = re.compile(r"\s?(?:[,;&]|(?:, ?)?(?:and|or|und|oder|et|ou|y|o|e|en|of))?", re.IGNORECASE)
_MAX_BETWEEN_CHARS = 8
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)

_LINE_START = re.compile(r"(?:^|\n)[ \t>]*$")
# How much text around a mark is read.
_CONTEXT_CHARS = 80
# Words that are removed together with the mark after them, if the sentence stays complete: `According to [1], …`,
# `As source [1] states, …`, `… (see [1])`.
_LEAD_IN = re.compile(
    rf"(?:(?P<opening>(?:^|(?<=[.!?:]\s)|(?<=\n)|(?<=- )|(?<=\* ))"
    rf"(?:according to|as|per|from|in|based on|laut|gemäß|wie|selon|d['’]après|comme|según|como|secondo|come|segundo|"
    rf"conforme|volgens|zoals)"
    rf"(?:\s(?:the|(?:stated |noted |described |said |shown |mentioned )?in|der|die|la|le|el|il|de|a|o)\b)*"
    rf"(?:\s{_SOURCE})?)"
    rf"|(?P<aside>\s?\((?:see|cf\.?|siehe|vgl\.?|voir|ver|véase|vedi|zie)?(?:\s{_SOURCE})?))$",
    re.IGNORECASE,
)
_LEAD_OUT = re.compile(r"\s?(?:[^\W\d_]+ ?){0,3},\s*")
# Words after which a sentence cannot end.
_NEEDS_MORE = re.compile(
    r"(?:^|[\s(])(?:to|in|by|from|per|see|of|with|at|on|than|and|or|laut|gemäß|nach|in|aus|von|siehe|und|selon|dans|de|voir|"
    r"et|d['’]après|según|en|ver|véase|y|secondo|vedi|e|segundo|conforme|em|volgens|uit|zie|van)$",
    re.IGNORECASE,
)
# A verb after a mark whose subject is the mark: `[1] states …`.
_VERB_OF_MARK = re.compile(
    r"\s(?:states?|says?|notes?|mentions?|describes?|explains?|shows?|does|is|has|gives?|lists?|sagt|nennt|besagt|erwähnt|"
    r"indique|dit|précise|mentionne|dice|indica|menciona|afirma|riporta|diz|zegt|vermeldt|noemt)\b",
    re.IGNORECASE,
)
# Replaces a removed mark where the sentence needs a word.
UNKNOWN_SOURCE = "[?]"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark at `start` to `end`, with the space before it.

    `source_numbers` holds each number once; a number that can name no source is 0. `is_definition` is True for an entry
    of a list of references, `[1]: a.pdf`.
    """

    start: int
    end: int
    space: str
    source_numbers: tuple[int, ...]
    is_definition: bool = False


def find_marks(answer: str) -> list[list[Mark]]:
    """Return the marks of an answer in groups; marks that follow each other directly are one group.

    `(source 1)` is a mark. `(1)` and the index of an array in code, `a[1]`, are not.
    """
    groups: list[list[Mark]] = []
    code = [(found.start(), found.end()) for found in _CODE.finditer(answer)]
    at = 0
    for found in _MARK.finditer(answer):
        start = found.start() + len(found["space"]) if "\n" in found["space"] else found.start()
        while at < len(code) and code[at][1] <= start:
            at += 1
        if at < len(code) and code[at][0] < start and re.match(r"[\w\])]", answer[start - 1]):
            continue
        space = found["space"] if "\n" not in found["space"] else ""
        defines = answer.startswith(":", found.end()) and bool(_LINE_START.search(answer[max(0, start - 10) : start]))
        mark = Mark(start, found.end(), space, _parse_numbers(found["numbers"] or found["named"]), defines)
        last = groups[-1][-1].end if groups else -1
        between = answer[last : mark.start] if last >= 0 and mark.start - last <= _MAX_BETWEEN_CHARS else None
        if between is not None and not defines and "\n" not in between and _BETWEEN_MARKS.fullmatch(between):
            groups[-1].append(mark)
        else:
            groups.append([mark])
    return groups


def render_marks(answer: str, groups: list[list[Mark]], kept: list[list[list[int]]]) -> str:
    """Return the answer with only the kept source numbers in its marks; a mark without any number is removed.

    `kept` holds the numbers of each mark of each group. Sentences stay readable where a mark is removed.
    """
    pieces: list[str] = []
    at = 0
    for group, numbers in zip(groups, kept, strict=True):
        before, end = answer[at : group[0].start], group[-1].end
        text = _join_marks(answer, group, numbers)
        if not text:
            before, text, end = _remove_group(before, answer, group, first=not pieces)
        pieces += [before, text]
        at = end
    return "".join([*pieces, answer[at:]]).strip()


def _join_marks(answer: str, group: list[Mark], numbers: list[list[int]]) -> str:
    """Return the marks of a group that keep a number, with the text between them."""
    text = ""
    for n, (mark, kept) in enumerate(zip(group, numbers, strict=True)):
        if kept:
            text += (answer[group[n - 1].end : mark.start] + mark.space) if text else group[0].space
            text += f"[{', '.join(map(str, kept))}]"
    return text


def _remove_group(before: str, answer: str, group: list[Mark], *, first: bool) -> tuple[str, str, int]:
    """Return the text before a removed group, the text in its place, and the offset at which the answer continues.

    `first` is True if `before` starts at the start of the answer.
    """
    end = group[-1].end
    after = answer[end : end + _CONTEXT_CHARS]
    head = before[-_CONTEXT_CHARS:]
    if not first or len(head) < len(before):
        head = f"]{head}"  # so that ^ in _LEAD_IN does not match its start
    lead = _LEAD_IN.search(head)
    if lead is not None and lead["aside"] and after.startswith(")"):
        return before[: len(before) - len(lead["aside"])], "", end + 1
    if lead is not None and lead["opening"] and (out := _LEAD_OUT.match(after)):
        rest = answer[end + out.end() : end + out.end() + 1]
        return before[: len(before) - len(lead["opening"])], rest.upper(), end + out.end() + len(rest)
    if group[0].is_definition:
        return before, "", end + 1 + (answer[end + 1 : end + 2] == " ")
    starts_sentence = not before.strip() or before.rstrip(" ")[-1] in ".!?\n:"
    if (group[0].space and _NEEDS_MORE.search(head)) or (
        _VERB_OF_MARK.match(after) and (starts_sentence or _NEEDS_MORE.search(head))
    ):
        return before, f"{group[0].space}{UNKNOWN_SOURCE}", end
    if starts_sentence and after.startswith(" ") and (not before or before[-1].isspace()):
        end += 1
    return before, "", end


def _parse_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in a mark, each once. A range longer than MAX_RANGE counts as its two ends."""
    numbers: list[int] = []
    for part in re.split(r"[^\d\s–−-]+", text):
        ends = _RANGE.fullmatch(part.strip())
        if ends is None:
            numbers += [_parse_number(digits) for digits in _NUMBER.findall(part)]
            continue
        first, last = _parse_number(ends[1]), _parse_number(ends[2])
        numbers += range(first, last + 1) if 0 <= last - first <= MAX_RANGE and first else [first, last]
    return tuple(dict.fromkeys(numbers))


def _parse_number(digits: str) -> int:
    return int(digits) if digits.isdecimal() and len(digits) <= _MAX_DIGITS else 0
