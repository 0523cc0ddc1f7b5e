"""An answer passed on while the model writes it."""

from __future__ import annotations

import time
from collections.abc import Callable

from rag.answer.prompt import MARK_SEPARATORS, REFUSAL_MARK, strip_refusal_mark
from rag.citations.quotations import open_quotation, split_quotations
from rag.citations.streamed import StreamedMarks
from rag.text.invisible import strip_controls

# The least time between two pieces: each piece costs a write, and nobody reads faster.
PIECE_SECONDS = 0.05
_MARKS = tuple(mark.lower() for mark in (REFUSAL_MARK, f"**{REFUSAL_MARK}**"))
_MAX_MARK_CHARS = max(map(len, _MARKS))


class TokenStream:
    """Passes text on in pieces: the first piece at once, the others at least PIECE_SECONDS apart.

    The refusal mark, the words that marks quote and control characters are left out, and text that may be a part of
    them is held back until more text arrives; so is space before a mark.
    `on_token` receives each piece, and the piece with only those marks that `marks` finds supported.
    `on_restart` is called when another answer begins after pieces of the first answer were passed on.
    """

    def __init__(
        self,
        on_token: Callable[[str, str], None],
        *,
        marks: StreamedMarks | None = None,
        on_restart: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_token = on_token
        self._marks = marks
        self._on_restart = on_restart
        self._clock = clock
        self._buffer = ""
        self._passed_on_at = float("-inf")
        self._started = False
        self._after_return = False

    def add(self, text: str) -> None:
        """Take the next part of the answer."""
        if self._after_return and text.startswith("\n"):  # the parts divide a line break
            text, self._after_return = text[1:], False
        if text:
            self._after_return = text.endswith("\r")
        self._buffer += strip_controls(text)
        if self._clock() - self._passed_on_at >= PIECE_SECONDS:
            held_back = max(_chars_to_hold_back(self._buffer), len(self._buffer) - open_quotation(self._buffer))
            self._flush(len(self._buffer) - len(self._buffer[: len(self._buffer) - held_back].rstrip()))

    def restart(self) -> None:
        """Drop the answer so far; another answer begins."""
        if self._started:
            self._on_restart()
        self._buffer, self._started, self._passed_on_at = "", False, float("-inf")
        self._after_return = False
        if self._marks is not None:
            self._marks.restart()

    def end(self) -> None:
        """Pass on the rest."""
        self._flush(0)

    def _flush(self, held_back: int) -> None:
        """Pass on the buffer except its last `held_back` characters."""
        size = len(self._buffer) - held_back
        piece = strip_refusal_mark(self._buffer[:size])
        if not self._started:
            piece = piece.lstrip(MARK_SEPARATORS if len(piece) < size else None)
        self._buffer = self._buffer[size:]
        text, _ = split_quotations(piece)
        if text:
            self._started, self._passed_on_at = True, self._clock()
            self._on_token(text, text if self._marks is None else self._marks.check(piece))


def _chars_to_hold_back(text: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a refusal mark."""
    end = text[-_MAX_MARK_CHARS:].lower()
    if "[" not in end and "*" not in end:
        return 0
    for size in range(len(end), 0, -1):
        tail = end[-size:]
        if any(mark.startswith(tail) and mark != tail for mark in _MARKS):
            return size
    return 0
