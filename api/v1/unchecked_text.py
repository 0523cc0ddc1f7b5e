"""The text of an answer while the model writes it: its citations are not checked yet, so its marks are left out.

The marks of tokens number the passages that the model was given. The marks that stay, and their numbers, are known at
the end of the answer.
"""

from __future__ import annotations

import re

_MARK = re.compile(r"\s*[\[【]\s*\d{1,6}(?:\s*[,;–-]\s*\d{1,6})*\s*[\]】]")
# A piece that may be the beginning of a mark waits for the next piece.
_OPEN_MARK = re.compile(r"\s*(?:[\[【][\d\s,;–-]{0,40})?\Z")


class UncheckedText:
    """Takes the tokens of an answer, and gives its text without marks. `given`: the text so far."""

    def __init__(self) -> None:
        self.given = ""
        self._held_back = ""

    def add(self, token: str) -> str:
        """Return the text that can be shown after one more token; it may be empty."""
        pending = _MARK.sub("", self._held_back + token)
        open_mark = _OPEN_MARK.search(pending)
        cut = open_mark.start() if open_mark else len(pending)
        shown, self._held_back = pending[:cut], pending[cut:]
        self.given += shown
        return shown
