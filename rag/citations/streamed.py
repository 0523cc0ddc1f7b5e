"""The marks of an answer that a model still writes: each is checked once it is there, by the text so far.

The check of the whole answer may decide otherwise: it knows what follows a mark, and what a judge says.
"""

from __future__ import annotations

from rag.citations.check import Assessment
from rag.citations.claims import MAX_CLAIM_CHARS
from rag.citations.marks import Mark, find_marks
from rag.citations.quotations import split_quotations
from rag.citations.support import Evidence
from rag.search.relevance import TermExtractor
from schemas import Passage

_FENCE = "```"


class StreamedMarks:
    """Checks the marks of an answer piece by piece. `passages` are numbered from 1, as in the prompt."""

    def __init__(self, passages: list[Passage], question: str, terms: TermExtractor) -> None:
        self._passages = passages
        self._question = question
        self._terms = terms
        self._evidence: dict[int, Evidence] = {}
        self.restart()

    def restart(self) -> None:
        """Forget the answer so far; another answer begins."""
        self._before = ""  # the paragraph so far, or its end
        self._in_code = False
        self._shown: set[int] = set()
        self._space = ""  # before a mark that was left out, for the mark that follows directly

    def check(self, piece: str) -> str:
        """Return the next piece with plain marks, and only those whose passages support the claim before them."""
        before = f"{_FENCE}\n{self._before}" if self._in_code else self._before
        begin = len(split_quotations(before)[0])
        text, _ = split_quotations(before + piece)
        if find_marks(text[begin:]):
            checked = self._check(before + piece, begin)
        else:
            checked, self._space = text[begin:], ""
        self._go_on(self._before + piece)
        return checked

    def _check(self, text: str, begin: int) -> str:
        """Return the end of a text, without quotations, from `begin` on."""
        assessment = Assessment(text, self._passages, self._question, self._terms, evidence=self._evidence)
        plain, pieces, at = assessment.text, list[str](), begin
        for mark, numbers, answers in assessment.supported():
            if mark.end <= begin:
                continue
            between = plain[at : max(at, mark.start)]
            space = mark.space if between else mark.space or self._space
            shown = self._numbers(mark, numbers, answers=answers)
            pieces += [between, f"{space}[{shown}]" if shown else ""]
            self._space, at = "" if shown else space, mark.end
        self._space = "" if plain[at:] else self._space
        return "".join([*pieces, plain[at:]])

    def _numbers(self, mark: Mark, supported: list[int], *, answers: bool) -> str:
        """Return the numbers that a mark keeps; none before the answer says more than the question."""
        if mark.is_definition:
            supported = [n for n in mark.source_numbers if n in self._shown]
        elif answers or self._shown:
            self._shown.update(supported)
        else:
            supported = []
        return ", ".join(map(str, supported))

    def _go_on(self, text: str) -> None:
        """Keep the part of the text that claims of later marks may need."""
        cut = max(text.rfind("\n\n"), len(text) - MAX_CLAIM_CHARS, 0)
        self._in_code ^= bool(text[:cut].count(_FENCE) % 2)
        self._before = text[cut:]
