"""Commands as an operator can type them in the folder where this program was started, and a check of what is typed."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentTypeError
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from schemas import UserId
from settings import ROOT


def script(name: str) -> str:
    """Return the command that runs a script of this project, such as main.py."""
    return f"{program(Path(sys.executable).name)} {shlex.quote(_shortest(ROOT / name))}"


def program(name: str) -> str:
    """Return the command that runs a program installed beside this Python, such as rq."""
    path = _shortest(Path(sys.executable).parent / name)
    return shlex.quote(path if "/" in path else f"./{path}")


def rq_worker(url: str) -> str:
    """Return the command that starts a stock RQ worker on the queue of questions.

    The worker imports our jobs from the current folder, or from `--path`.
    """
    place = "" if _shortest(ROOT) == "." else f" --path {shlex.quote(str(ROOT))}"
    return f"{program('rq')} worker --url {url} rag_queries{place}"


def _shortest(path: Path) -> str:
    """Return a path relative to the current folder if it lies below that folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(path)


def parse_user_id(text: str) -> str:
    """Check the user that a command line names, and return it. Raises ArgumentTypeError."""
    try:
        if text.isprintable():
            return TypeAdapter(UserId).validate_python(text)
    except ValidationError:
        pass
    raise ArgumentTypeError("must be a user's name of 1 to 255 printable characters")


def parse_id(text: str) -> str:
    """Check the id of a key or job that a command line names, and return it. Raises ArgumentTypeError."""
    if not text.isprintable():  # such as bytes that are no UTF-8
        raise ArgumentTypeError("must be an id as `list` prints it")
    return text
