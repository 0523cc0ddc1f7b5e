"""A file as it comes in: its name made safe to show, its bytes counted and hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from client.files.store import CHUNK_BYTES

MAX_NAME_CHARS = 255
MAX_SUFFIX_CHARS = 16


class MeasuredFile:
    """A file whose size and SHA-256 are known once all of its chunks are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        """Yield the file in chunks, counting and hashing them."""
        while chunk := self._file.read(CHUNK_BYTES):
            self.bytes += len(chunk)
            self.sha256.update(chunk)
            yield chunk


def clean_name(name: str) -> str:
    """Return the last part of a file's name without unprintable characters, at most MAX_NAME_CHARS long."""
    last_part = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    printable = "".join(char for char in last_part if char.isprintable()).strip()
    if len(printable) > MAX_NAME_CHARS:
        stem, dot, suffix = printable.rpartition(".")
        keep_suffix = dot and len(suffix) < MAX_SUFFIX_CHARS
        printable = (
            f"{stem[: MAX_NAME_CHARS - len(suffix) - 1]}.{suffix}" if keep_suffix else printable[:MAX_NAME_CHARS]
        )
    return printable or "unnamed"
