"""Files of every kind, each with the text that must and must not be found in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """A file of the corpus.

    `found` are parts of its text with single spaces. `reason` is that of the failure, "" for a file that is read.
    `headings` are the sections of chunks, `warnings` the reasons by page.
    """

    name: str
    make: Callable[[], bytes]
    found: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    reason: str = ""
    warnings: dict[int, str] = field(default_factory=dict)
