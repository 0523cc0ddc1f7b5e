"""The claim that each mark of an answer is cited for."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from rag.citations.marks import Mark
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans

# The start of a line that is a block by itself: a bullet, a list number, a table row, a heading, a quotation.
_BLOCK_START = re.compile(r"[ \t]*(?:[-*•▪◦+–][ \t]|\d{1,3}[.)][ \t]|[|#>])")
_LINE = re.compile(r"[^\n]*\n?")
_SENTENCE_ENDS = ".!?:;。！？"
_WORD = re.compile(r"[^\W_]+")
# Words that lead in to a mark and claim nothing, in the languages of rag/text/language.py.
_LEAD_IN_WORDS = (
    "according to as per in from based on by see cf the a an and but also both that this stated noted described said "
    "source sources document documents passage passages no ref reference "
    "laut gemäß nach wie siehe vgl aus der die den dem und auch quelle quellen dokument dokumenten "
    "selon d après comme dans voir la le les l et aussi "
    "según como en ver véase de acuerdo con el y también fuente fuentes documento documentos "
    "secondo come vedi il lo e anche fonte fonti documenti "
    "segundo conforme acordo com o também fontes volgens zoals zie het bron bronnen"
)
_LEAD_IN = frozenset(_LEAD_IN_WORDS.split())
_MAX_LEAD_IN_WORDS = 8
# The text after a mark at which the claim ends or another one begins.
_OVER = re.compile(
    r"\s*(?:[,;:.!?)\]–—…]|(?:and|or|but|while|whereas|und|oder|aber|während|et|ou|mais|y|o|pero|e|ma|mas|en|of|maar)\b)",
    re.IGNORECASE,
)
# Fewer terms than this before a mark are a subject without a statement.
_MIN_CLAIM_TERMS = 2


class _Unit(NamedTuple):
    """A sentence, row or bullet of the answer without marks, at `start` to `end`, in block `block`."""

    start: int
    end: int
    block: int


def claims_of(answer: str, groups: list[list[Mark]], terms: TermExtractor) -> list[str]:
    """Return the claim of each group of marks: its sentence, row or bullet, or a part of it.

    The claim of a mark within a sentence is the text before the mark, back to the previous mark. The text after the
    mark is added if the text before it claims nothing (`According to [1], …`) or is incomplete (`The lamp [1] weighs
    …`). The claim of a mark before a sentence is that sentence. In a block that starts with a mark, every mark between
    sentences belongs to the sentence after it.
    """
    plain, offsets = _without_marks(answer, groups)
    blocks = _blocks(plain, set(offsets))
    units = [_Unit(start, end, n) for n, (a, b) in enumerate(blocks) for start, end in sentence_spans(plain, a, b)]
    claims = [""] * len(groups)
    for unit_index, numbers in _groups_by_unit(plain, units, offsets).items():
        if unit_index >= 0:
            start, end, _ = units[unit_index]
            cuts = [start, *(min(max(offsets[n], start), end) for n in numbers), end]
            for place, number in enumerate(numbers):
                claims[number] = _claim(plain, cuts, place, terms)
    return claims


def _groups_by_unit(plain: str, units: list[_Unit], offsets: list[int]) -> dict[int, list[int]]:
    """Return the indexes of the groups of marks in each unit, by the unit's index; -1 holds the groups in no unit."""
    starts = [unit.start for unit in units]
    groups: dict[int, list[int]] = {}
    marks_lead: dict[int, bool] = {}  # by block: True if its marks stand before their sentences
    for number, offset in enumerate(offsets):
        n = bisect_right(starts, offset) - 1
        if n >= 0 and offset == starts[n] and (n == 0 or offset > units[n - 1].end or not offset):
            marks_lead.setdefault(units[n].block, True)
        elif n + 1 < len(units) and (n < 0 or offset > units[n].end) and "\n" not in plain[offset : starts[n + 1]]:
            marks_lead.setdefault(units[n + 1].block, True)
            n += 1
        elif n >= 0:
            block = units[n].block
            marks_lead.setdefault(block, False)
            follows = n + 1 < len(units) and units[n + 1].block == block
            if marks_lead[block] and follows and offset >= units[n].end:
                n += 1
        groups.setdefault(n, []).append(number)
    return groups


def _claim(plain: str, cuts: list[int], place: int, terms: TermExtractor) -> str:
    """Return the claim of mark `place` of a unit; `cuts` holds the unit's start, the marks' offsets, and its end."""
    before = plain[cuts[place] : cuts[place + 1]]
    after = plain[cuts[place + 1] : cuts[place + 2]]
    if _is_lead_in(before):
        return after if _WORD.search(after) else plain[cuts[0] : cuts[place + 1]]
    if not _WORD.search(after) or (place and not plain.startswith("|", cuts[0])):
        return before if _is_over(after) or not _WORD.search(after) else before + after
    another_cell = place + 3 < len(cuts) and after.lstrip().startswith("|")
    if another_cell or (_is_over(after) and len(terms(before)) >= _MIN_CLAIM_TERMS):
        return before
    return before + after


def _is_over(after: str) -> bool:
    return bool(_OVER.match(after))


def _is_lead_in(before: str) -> bool:
    words = _WORD.findall(before[:200])
    return len(words) <= _MAX_LEAD_IN_WORDS and all(word.lower() in _LEAD_IN for word in words)


def _without_marks(answer: str, groups: list[list[Mark]]) -> tuple[str, list[int]]:
    """Return the answer without its marks, and the offset of each group in it."""
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
    """Yield the blocks that a claim cannot extend beyond: lines, with the lines of a wrapped paragraph as one block."""
    begin = 0
    for line in _LINE.finditer(plain):
        end = line.end()
        if not line[0]:
            break
        text = line[0].rstrip()
        last = line.start() + len(text)
        closed = not text or text[-1] in _SENTENCE_ENDS or last in marked or text.lstrip()[0] in "|#"
        if closed or _BLOCK_START.match(plain, end):
            yield begin, end
            begin = end
    if begin < len(plain):
        yield begin, len(plain)
