"""The `[n]` marks of an answer in all the forms that models write them, and the answer with some of them taken out."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_RANGE = 50
# A number of more digits names no source; it is not even read.
_MOST_DIGITS = 6
_SOURCE = r"(?:sources?|quellen?|fuentes?|fonti|fontes?|bron(?:nen)?|documents?|docs?|passages?|refs?)"
_NUMBERS = r"\d+(?:\s{0,3}(?:[,;–-]|&|and\b|und\b|et\b|y\b|e\b|en\b)\s{0,3}\d+)*"
# After the numbers: a page, or what some models add after a dagger.
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
_JOINED = re.compile(r"\s?(?:[,;&]|(?:, ?)?(?:and|or|und|oder|et|ou|y|o|e|en|of))?", re.IGNORECASE)
_LONGEST_JOIN = 8
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)

_LINE_BEGIN = re.compile(r"(?:^|\n)[ \t>]*$")
_LOOK_BACK = 80
# What comes before a mark that is a part of its sentence, and goes with it where the sentence stands without:
# `According to [1], …`, `As source [1] states, …`, `… (see [1])`.
_LEAD_IN = re.compile(
    rf"(?:(?P<first>(?:^|(?<=[.!?:]\s)|(?<=\n)|(?<=- )|(?<=\* ))"
    rf"(?:according to|as|per|from|in|based on|laut|gemäß|wie|selon|d['’]après|comme|según|como|secondo|come|segundo|"
    rf"conforme|volgens|zoals)"
    rf"(?:\s(?:the|(?:stated |noted |described |said |shown |mentioned )?in|der|die|la|le|el|il|de|a|o)\b)*"
    rf"(?:\s{_SOURCE})?)"
    rf"|(?P<aside>\s?\((?:see|cf\.?|siehe|vgl\.?|voir|ver|véase|vedi|zie)?(?:\s{_SOURCE})?))$",
    re.IGNORECASE,
)
_LEAD_OUT = re.compile(r"\s?(?:[^\W\d_]+ ?){0,3},\s*")
# Words that need another after them.
_NEEDS_MORE = re.compile(
    r"(?:^|[\s(])(?:to|in|by|from|per|see|of|with|at|on|than|and|or|laut|gemäß|nach|in|aus|von|siehe|und|selon|dans|de|voir|"
    r"et|d['’]après|según|en|ver|véase|y|secondo|vedi|e|segundo|conforme|em|volgens|uit|zie|van)$",
    re.IGNORECASE,
)
# A verb of saying after a mark: the mark is what says it.
_SAYS = re.compile(
    r"\s(?:states?|says?|notes?|mentions?|describes?|explains?|shows?|does|is|has|gives?|lists?|sagt|nennt|besagt|erwähnt|"
    r"indique|dit|précise|mentionne|dice|indica|menciona|afirma|riporta|diz|zegt|vermeldt|noemt)\b",
    re.IGNORECASE,
)
UNKNOWN = "[?]"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark from `start` to `end`, with the space before it; `numbers` are those it names, each once, 0 for none."""

    start: int
    end: int
    space: str
    numbers: tuple[int, ...]
    is_definition: bool = False


Group = list[Mark]


def find_marks(answer: str) -> list[Group]:
    """Return the marks that stand in an answer, those together that follow each other.

    `(1)` is none, but `(source 1)` is; nor is the index of an array in code, `a[1]`.
    """
    groups: list[Group] = []
    code = [(found.start(), found.end()) for found in _CODE.finditer(answer)]
    at = 0
    for found in _MARK.finditer(answer):
        start = found.start() + len(found["space"]) if "\n" in found["space"] else found.start()
        while at < len(code) and code[at][1] <= start:
            at += 1
        if at < len(code) and code[at][0] < start and re.match(r"[\w\])]", answer[start - 1]):
            continue
        space = found["space"] if "\n" not in found["space"] else ""
        defines = answer.startswith(":", found.end()) and bool(_LINE_BEGIN.search(answer[max(0, start - 10) : start]))
        mark = Mark(start, found.end(), space, _numbers(found["numbers"] or found["named"]), defines)
        last = groups[-1][-1].end if groups else -1
        between = answer[last : mark.start] if last >= 0 and mark.start - last <= _LONGEST_JOIN else None
        if between is not None and not defines and "\n" not in between and _JOINED.fullmatch(between):
            groups[-1].append(mark)
        else:
            groups.append([mark])
    return groups


def rendered(answer: str, groups: list[Group], kept: list[list[list[int]]]) -> str:
    """Return the answer with each mark naming those numbers only that are kept of it, readable where none is.

    `kept` holds for each group what is kept of each of its marks.
    """
    pieces: list[str] = []
    at = 0
    for group, numbers in zip(groups, kept, strict=True):
        before, end = answer[at : group[0].start], group[-1].end
        text = _joined(answer, group, numbers)
        if not text:
            before, text, end = _without(before, answer, group, first=not pieces)
        pieces += [before, text]
        at = end
    return "".join([*pieces, answer[at:]]).strip()


def _joined(answer: str, group: Group, numbers: list[list[int]]) -> str:
    """Write the marks of a group that keep a number, with what stood between them."""
    text = ""
    for n, (mark, kept) in enumerate(zip(group, numbers, strict=True)):
        if kept:
            text += (answer[group[n - 1].end : mark.start] + mark.space) if text else group[0].space
            text += f"[{', '.join(map(str, kept))}]"
    return text


def _without(before: str, answer: str, group: Group, *, first: bool) -> tuple[str, str, int]:
    """Return what stands before a group that goes, what takes its place, and where the answer goes on."""
    end = group[-1].end
    after = answer[end : end + _LOOK_BACK]
    head = before[-_LOOK_BACK:]
    if not first or len(head) < len(before):
        head = f"]{head}"  # where it begins is no beginning
    lead = _LEAD_IN.search(head)
    if lead is not None and lead["aside"] and after.startswith(")"):
        return before[: len(before) - len(lead["aside"])], "", end + 1
    if lead is not None and lead["first"] and (out := _LEAD_OUT.match(after)):
        rest = answer[end + out.end() : end + out.end() + 1]
        return before[: len(before) - len(lead["first"])], rest.upper(), end + out.end() + len(rest)
    if group[0].is_definition:
        return before, "", end + 1 + (answer[end + 1 : end + 2] == " ")
    begins = not before.strip() or before.rstrip(" ")[-1] in ".!?\n:"
    if (group[0].space and _NEEDS_MORE.search(head)) or (_SAYS.match(after) and (begins or _NEEDS_MORE.search(head))):
        return before, f"{group[0].space}{UNKNOWN}", end
    if begins and after.startswith(" ") and (not before or before[-1].isspace()):
        end += 1
    return before, "", end


def _numbers(said: str) -> tuple[int, ...]:
    """Return the numbers in a mark, each once; of a range too long to be meant only its ends."""
    found: list[int] = []
    for part in re.split(r"[^\d\s–−-]+", said):
        ends = _RANGE.fullmatch(part.strip())
        if ends is None:
            found += [_number(number) for number in _NUMBER.findall(part)]
            continue
        first, last = _number(ends[1]), _number(ends[2])
        found += range(first, last + 1) if 0 <= last - first <= LONGEST_RANGE and first else [first, last]
    return tuple(dict.fromkeys(found))


def _number(digits: str) -> int:
    return int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else 0
