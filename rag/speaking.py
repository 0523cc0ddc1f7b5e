"""An answer told while it is being written."""

from __future__ import annotations

import time
from collections.abc import Callable

from rag.prompt import NO_ANSWER_MARK

# At most one piece in this time: each costs a write, and nobody reads faster.
PIECE_SECONDS = 0.05


class Speaker:
    """Passes text on in pieces, the first at once, the others PIECE_SECONDS apart; `end` passes on the rest.

    A beginning that may yet turn out to be the mark of a refusal is held back. `void` is called when what was passed on
    of an answer is void, and another begins.
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
        if not self._begun and NO_ANSWER_MARK.startswith(self._waiting.strip()):
            return
        if self._clock() - self._said_at >= PIECE_SECONDS:
            self._flush()

    def restart(self) -> None:
        """Begin with another answer."""
        if self._begun:
            self._void()
        self._waiting, self._begun, self._said_at = "", False, float("-inf")

    def end(self) -> None:
        """Pass on what is left."""
        if self._waiting:
            self._flush()

    def _flush(self) -> None:
        text, self._waiting = self._waiting, ""
        if not self._begun:
            text = text.replace(NO_ANSWER_MARK, "", 1).lstrip()
        self._begun, self._said_at = True, self._clock()
        if text:
            self._say(text)
