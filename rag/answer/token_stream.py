"""An answer told while it is being written."""

from __future__ import annotations

import time
from collections.abc import Callable

from rag.answer.prompt import AFTER_THE_MARK, NO_ANSWER_MARK, without_no_answer_mark

# At most one piece in this time: each costs a write, and nobody reads faster.
PIECE_SECONDS = 0.05
_MARKS = tuple(mark.lower() for mark in (NO_ANSWER_MARK, f"**{NO_ANSWER_MARK}**"))
_LONGEST_MARK = max(map(len, _MARKS))


class TokenStream:
    """Passes text on in pieces, the first at once, the others PIECE_SECONDS apart; `end` passes on the rest.

    The mark of a refusal is left out, wherever it stands; what may yet turn out to be its beginning is held back.
    `void` is called when what was passed on of an answer is void, and another begins.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        void: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._void = void
        self._clock = clock
        self._waiting = ""
        self._said_at = float("-inf")
        self._begun = False

    def __call__(self, text: str) -> None:
        """Take the next part of the answer."""
        self._waiting += text
        if self._clock() - self._said_at >= PIECE_SECONDS:
            self._flush(_held_back(self._waiting))

    def restart(self) -> None:
        """Begin with another answer."""
        if self._begun:
            self._void()
        self._waiting, self._begun, self._said_at = "", False, float("-inf")

    def end(self) -> None:
        """Pass on what is left."""
        self._flush(0)

    def _flush(self, held_back: int) -> None:
        """Pass on what waits but for its last `held_back` characters."""
        upto = len(self._waiting) - held_back
        text = without_no_answer_mark(self._waiting[:upto])
        if not self._begun:
            text = text.lstrip(AFTER_THE_MARK if len(text) < upto else None)
        self._waiting = self._waiting[upto:]
        if text:
            self._begun, self._said_at = True, self._clock()
            self._say(text)


def _held_back(text: str) -> int:
    """Return how many characters at the end of a text may be the beginning of the mark."""
    for size in range(min(len(text), _LONGEST_MARK), 0, -1):
        tail = text[-size:].lower()
        if any(mark.startswith(tail) and mark != tail for mark in _MARKS):
            return size
    return 0
