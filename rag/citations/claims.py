"""The claim that each mark of an answer is cited for."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from rag.citations.marks import Mark
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans

# The start of a line that is a block by itself: a bullet, a list number, a table row, a heading, a quotation.
_BLOCK_START = re.compile(r"[ \t]*(?:[-*•▪◦+–][ \t]|\d{1,3}[.)][ \t]|[|#>])")
_LINE = re.compile(r"[^\n]*\n?")
_SENTENCE_ENDS = ".!?:;。！？"
_WORD = re.compile(r"[^\W_]")
# The sentence goes on after a mark.
_GOES_ON = re.compile(r"[\s|]*[^\W_]")
# Fewer terms than this before a mark are a subject without a statement, or words such as `According to [1], …`.
_MIN_CLAIM_TERMS = 2
# Of a sentence with many marks, a claim has this much at most: it bounds the time of the check.
MAX_CLAIM_CHARS = 2_000


def claims_of(answer: str, groups: list[list[Mark]], terms: TermExtractor) -> list[str]:
    """Return the claim of each group of marks: its sentence, row or bullet, or a part of it.

    The claim of a mark within a sentence is the text before the mark, back to the previous mark. The text after the
    mark is added if the text before it is too short, or if the sentence goes on without another mark. In a block that
    starts with a mark, each mark between sentences belongs to the sentence after it. A mark on a line of its own
    belongs to the block above.
    """
    plain, offsets = _without_marks(answer, groups)
    claims: list[str] = []
    start, spans = 0, list[tuple[int, int]]()
    for block_start, block_end in _blocks(plain, set(offsets)):
        last = len(offsets) if block_end == len(plain) else bisect_left(offsets, block_end)
        marks = offsets[len(claims) : last]
        if spans_of_block := list(sentence_spans(plain, block_start, block_end)):
            start, spans = block_start, spans_of_block
        if marks:
            claims += _claims_of_block(plain, spans, [start, *marks, block_end], terms)
    return claims + [""] * (len(groups) - len(claims))


def _claims_of_block(plain: str, spans: list[tuple[int, int]], cuts: list[int], terms: TermExtractor) -> Iterator[str]:
    """Yield the claim of each mark; `cuts` holds the start of the block, the offsets of its marks, and its end."""
    marks_lead = not _WORD.search(plain, cuts[0], cuts[1])
    at = 0
    for cut, offset, next_cut in zip(cuts, cuts[1:], cuts[2:], strict=False):
        while at + 1 < len(spans) and (spans[at + 1][0] < offset or (marks_lead and offset >= spans[at][1])):
            at += 1
        start, end = spans[at] if spans else (offset, offset)
        before, after = plain[max(start, cut) : min(offset, end)], plain[max(offset, start) : min(next_cut, end)]
        follows_mark, mark_follows = cut > start, next_cut < end
        if len(terms(before)) >= _MIN_CLAIM_TERMS and (follows_mark or mark_follows or not _GOES_ON.match(after)):
            yield before
        elif _WORD.search(after) and not (follows_mark and _WORD.search(before)):
            yield before + after
        else:
            yield plain[max(start, offset - MAX_CLAIM_CHARS) : min(offset, end)]


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
