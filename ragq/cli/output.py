"""What commands print: results as lines or JSON on standard output, all else on standard error."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

# Of the characters without a shape: what a text may hold. All others could move the cursor, or hide what is printed.
ID_CHARS = 36
_KEPT = "\n\t\u200c\u200d"
_WITHHELD = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    """Return the text without characters that control a terminal. Texts come from documents of anybody."""
    return "".join(one for one in text if one in _KEPT or unicodedata.category(one) not in _WITHHELD)


def one_line(text: str) -> str:
    return " ".join(printable(text).split())


class Output:
    """Prints for people, or with `as_json` for programs: one object a line."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def is_live(self) -> bool:
        """True if progress may be drawn: somebody reads along in a terminal."""
        return sys.stderr.isatty() and not self.as_json

    def record(self, value: object) -> None:
        """Print an object for programs; nothing for people."""
        if self.as_json:
            click.echo(json.dumps(value))

    def line(self, text: str = "") -> None:
        """Print a line of a result for people."""
        if not self.as_json:
            click.echo(printable(text))

    def text(self, text: str) -> None:
        """Print a part of a line for people."""
        if not self.as_json:
            click.echo(printable(text), nl=False)
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print a line that is no result."""
        if not self.as_json:
            click.echo(printable(text), err=True)

    def failure(self, kind: str, detail: str, *, hint: str = "", **members: object) -> None:
        """Print on standard error why something failed, and what to do."""
        if self.as_json:
            advice = {"hint": hint} if hint else {}
            click.echo(json.dumps({"error": {"kind": kind, "detail": detail, **advice, **members}}), err=True)
            return
        click.echo(click.style("error: ", fg="red", bold=True) + printable(detail), err=True)
        if hint:
            click.echo(printable(hint), err=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table for people: in columns in a terminal, else with a tab between values and without a header."""
        if self.as_json:
            return
        texts = [[_cell(value) for value in row] for row in rows]
        if not sys.stdout.isatty():
            for row in texts:
                click.echo("\t".join(row))
            return
        from rich.console import Console  # 60 ms
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:  # ids are whole, for the clipboard; what is too wide for the terminal is cut elsewhere
            table.add_column(column, no_wrap=True, min_width=ID_CHARS if column == "id" else None)
        for row in texts:
            table.add_row(*(Text(value) for value in row))
        Console(highlight=False).print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return (
            value.astimezone().strftime("%Y-%m-%d %H:%M") if sys.stdout.isatty() else value.astimezone(UTC).isoformat()
        )
    return one_line(str(value))


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
