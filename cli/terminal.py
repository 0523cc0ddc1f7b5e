"""Commands as they can be typed where this program was started, whatever PATH holds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from settings import ROOT


def script(name: str) -> str:
    """Return how to run a script of this project, such as main.py."""
    return f"{program(Path(sys.executable).name)} {shlex.quote(_shortest(ROOT / name))}"


def program(name: str) -> str:
    """Return how to run a program that is installed beside this Python, such as rq."""
    path = _shortest(Path(sys.executable).parent / name)
    return shlex.quote(path if "/" in path else f"./{path}")


def rq_worker(url: str) -> str:
    """Return how to start one of RQ's own workers, which looks for our jobs in the current folder unless told where."""
    place = "" if _shortest(ROOT) == "." else f" --path {shlex.quote(str(ROOT))}"
    return f"{program('rq')} worker --url {url} rag_queries{place}"


def _shortest(path: Path) -> str:
    """Return a path as seen from the current folder, if it is below that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(path)
