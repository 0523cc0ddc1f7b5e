"""The marks of an answer as OpenAI's clients read them: `[1]` is the first citation of the list, `[2]` the second.

Our own marks have the numbers of passages. Here they are numbered in the order in which the text uses them first.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schemas import Answer, Source

# A checked mark has this form.
_MARK = re.compile(r"\[(\d{1,6}(?:, \d{1,6})*)\]")
_END_OF_NAME = re.compile(r"[\w\])]")
Place = tuple[int, int]


class NumberedText:
    """Takes an answer, whole or in pieces, and numbers its marks. `given`: the text so far.

    `sources`: the numbers of the passages that marks may name; None while they are not known. `places`: where each of
    them is marked first.
    """

    def __init__(self, sources: AbstractSet[int] | None = None) -> None:
        self._sources = sources
        self._held_back = ""  # space: none stands at the end of an answer
        self.given = ""
        self.places: dict[int, Place] = {}

    def add(self, text: str) -> str:
        """Return what the next piece adds to the text."""
        text = self._held_back + text
        shown = text.rstrip()
        self._held_back = text[len(shown) :]
        before, at = len(self.given), 0
        for mark in _MARK.finditer(shown):
            self.given += shown[at : mark.start()]
            self.given += mark[0] if self._is_index() else self._numbered(mark)
            at = mark.end()
        self.given += shown[at:]
        return self.given[before:]

    def rest(self, text: str) -> str:
        """Return what is missing of the whole text; empty where the check decided otherwise and the text differs."""
        return text.removeprefix(self.given) if text.startswith(self.given) else ""

    def _numbered(self, mark: re.Match[str]) -> str:
        numbers = [int(digits) for digits in mark[1].split(", ")]
        if self._sources is not None and not self._sources >= set(numbers):
            return mark[0]
        start = len(self.given)
        new = [n for n in dict.fromkeys(numbers) if n not in self.places]
        self.places |= dict.fromkeys(new, (start, start))
        order = list(self.places)
        shown = f"[{', '.join(str(order.index(n) + 1) for n in numbers)}]"
        self.places |= dict.fromkeys(new, (start, start + len(shown)))
        return shown

    def _is_index(self) -> bool:
        """Return True if brackets that come next are those of an array in code, `a[1]`."""
        if not _END_OF_NAME.match(self.given[-1:]):
            return False
        line = self.given[self.given.rfind("\n") + 1 :]
        return bool(self.given.count("```") % 2 or line.count("`") % 2)


@dataclass(frozen=True, slots=True)
class NumberedAnswer:
    """The text of an answer with numbered marks, and its sources in the order of these numbers, with their places."""

    text: str
    cited: tuple[tuple[Source, Place], ...]


def numbered(answer: Answer) -> NumberedAnswer:
    """Return an answer as OpenAI's clients read it. A source without a mark stands at the end of the text."""
    by_number = {source.n: source for source in answer.sources}
    text = NumberedText(by_number.keys())
    text.add(answer.text)
    end = (len(text.given), len(text.given))
    order = dict.fromkeys([*text.places, *by_number])
    return NumberedAnswer(text.given, tuple((by_number[n], text.places.get(n, end)) for n in order))
