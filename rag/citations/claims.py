"""What each mark of an answer stands behind."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from rag.citations.marks import Group
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans

# A line that is a piece of its own: a bullet, a number of a list, a row of a table, a heading, a quotation.
_OWN_LINE = re.compile(r"[ \t]*(?:[-*•▪◦+–][ \t]|\d{1,3}[.)][ \t]|[|#>])")
_LINE = re.compile(r"[^\n]*\n?")
_ENDS = ".!?:;。！？"
_WORD = re.compile(r"[^\W_]+")
# Before a mark, what leads in to it and claims nothing, in the languages of rag/text/language.py.
_LEADING_WORDS = (
    "according to as per in from based on by see cf the a an and but also both that this stated noted described said "
    "source sources document documents passage passages no ref reference "
    "laut gemäß nach wie siehe vgl aus der die den dem und auch quelle quellen dokument dokumenten "
    "selon d après comme dans voir la le les l et aussi "
    "según como en ver véase de acuerdo con el y también fuente fuentes documento documentos "
    "secondo come vedi il lo e anche fonte fonti documenti "
    "segundo conforme acordo com o também fontes volgens zoals zie het bron bronnen"
)
_LEADING = frozenset(_LEADING_WORDS.split())
_MOST_LEADING = 8
# After a mark: the claim is over, or another begins.
_OVER = re.compile(
    r"\s*(?:[,;:.!?)\]–—…]|(?:and|or|but|while|whereas|und|oder|aber|während|et|ou|mais|y|o|pero|e|ma|mas|en|of|maar)\b)",
    re.IGNORECASE,
)
# Fewer terms than this before a mark are a subject without what is said of it.
_A_CLAIM = 2


def claims_of(answer: str, groups: list[Group], terms: TermExtractor) -> list[str]:
    """Return for each group of marks what it stands behind: its sentence, row or bullet, or its part of that.

    A mark amid a sentence stands behind what comes before it, since the mark before; where that says nothing
    (`According to [1], …`) or stops halfway (`The lamp [1] weighs …`), behind what comes after it too. A mark before
    a sentence stands behind that, and in a line that begins so each mark between sentences does.
    """
    plain, offsets = _without(answer, groups)
    blocks = list(_blocks(plain, set(offsets)))
    spans = [(start, end, n) for n, (a, b) in enumerate(blocks) for start, end in sentence_spans(plain, a, b)]
    starts = [start for start, _, _ in spans]
    at: dict[int, list[int]] = {}
    leads: dict[int, bool] = {}  # by block: whether its marks come before their sentences
    for number, offset in enumerate(offsets):
        unit = bisect_right(starts, offset) - 1
        if unit >= 0 and offset == starts[unit] and (unit == 0 or offset > spans[unit - 1][1] or not offset):
            leads.setdefault(spans[unit][2], True)
        elif (
            unit + 1 < len(spans)
            and (unit < 0 or offset > spans[unit][1])
            and "\n" not in plain[offset : starts[unit + 1]]
        ):
            leads.setdefault(spans[unit + 1][2], True)
            unit += 1
        elif unit >= 0:
            block = spans[unit][2]
            leads.setdefault(block, False)
            follows = unit + 1 < len(spans) and spans[unit + 1][2] == block
            if leads[block] and follows and offset >= spans[unit][1]:
                unit += 1
        at.setdefault(unit, []).append(number)
    claims = [""] * len(groups)
    for unit, numbers in at.items():
        if unit >= 0:
            start, end, _ = spans[unit]
            cuts = [start, *(min(max(offsets[n], start), end) for n in numbers), end]
            for place, number in enumerate(numbers):
                claims[number] = _claim(plain, cuts, place, terms)
    return claims


def _claim(plain: str, cuts: list[int], place: int, terms: TermExtractor) -> str:
    before = plain[cuts[place] : cuts[place + 1]]
    after = plain[cuts[place + 1] : cuts[place + 2]]
    if _leads_in(before):
        return after if _WORD.search(after) else plain[cuts[0] : cuts[place + 1]]
    if not _WORD.search(after) or (place and not plain.startswith("|", cuts[0])):
        return before if _is_over(after) or not _WORD.search(after) else before + after
    another_cell = place + 3 < len(cuts) and after.lstrip().startswith("|")
    if another_cell or (_is_over(after) and len(terms(before)) >= _A_CLAIM):
        return before
    return before + after


def _is_over(after: str) -> bool:
    return bool(_OVER.match(after))


def _leads_in(before: str) -> bool:
    words = _WORD.findall(before[:200])
    return len(words) <= _MOST_LEADING and all(word.lower() in _LEADING for word in words)


def _without(answer: str, groups: list[Group]) -> tuple[str, list[int]]:
    """Return an answer without its marks, and where in it each group stood."""
    pieces: list[str] = []
    offsets: list[int] = []
    at = length = 0
    for group in groups:
        pieces.append(answer[at : group[0].start])
        length += len(pieces[-1])
        offsets.append(length)
        at = group[-1].end
    return "".join([*pieces, answer[at:]]), offsets


def _blocks(plain: str, marked: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a text that no claim goes beyond: lines, but those of a wrapped paragraph together."""
    begin = 0
    for line in _LINE.finditer(plain):
        end = line.end()
        if not line[0]:
            break
        text = line[0].rstrip()
        last = line.start() + len(text)
        closed = not text or text[-1] in _ENDS or last in marked or text.lstrip()[0] in "|#"
        if closed or _OWN_LINE.match(plain, end):
            yield begin, end
            begin = end
    if begin < len(plain):
        yield begin, len(plain)
