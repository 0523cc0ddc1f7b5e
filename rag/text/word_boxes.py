"""Where the words of a picture stand, packed: 14 bytes for each word before compression."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

# A page's width and height have this many units each: a unit is 0.03 mm of A4.
UNITS = 10_000
_WORD = struct.Struct("<IHHHHH")


class WordBox(NamedTuple):
    """The place of the word `text[start:end]`, in UNITS from the top left corner of the page as it is shown."""

    start: int
    end: int
    left: int
    top: int
    right: int
    bottom: int


def pack(words: Iterable[WordBox]) -> bytes:
    """Return the words as bytes."""
    return zlib.compress(b"".join(_WORD.pack(word.start, word.end - word.start, *word[2:]) for word in words))


def unpack(data: bytes) -> list[WordBox]:
    """Return the words that were packed."""
    unpacked = zlib.decompress(data) if data else b""
    return [WordBox(start, start + length, *box) for start, length, *box in _WORD.iter_unpack(unpacked)]
