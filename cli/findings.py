"""What a check finds: a sentence about one part, and whether the part is in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from errors import AppError


class State(StrEnum):
    """`WARN`: the service works, but something is missing or may go wrong. `FAIL`: something does not work."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about a part: what is, and for WARN and FAIL what to do."""

    part: str
    state: State
    sentence: str


Findings = Iterable[Finding]


def ok(part: str, sentence: str) -> Finding:
    """Return a finding of a part that is in order."""
    return Finding(part, State.OK, sentence)


def warn(part: str, sentence: str) -> Finding:
    """Return a finding of a part that may go wrong."""
    return Finding(part, State.WARN, sentence)


def fail(part: str, sentence: str) -> Finding:
    """Return a finding of a part that does not work."""
    return Finding(part, State.FAIL, sentence)


def checked(part: str, check: Callable[[], Findings]) -> Iterator[Finding]:
    """Yield what a check finds; the error that a check raises is a finding, too. No check ends the others."""
    try:
        yield from check()
    except AppError as error:
        yield fail(part, error.detail)
    except Exception as error:  # noqa: BLE001  the other parts are still to be looked at
        yield fail(part, f"could not be checked ({type(error).__name__}): {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else "no reason given"
