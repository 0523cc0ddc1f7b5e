"""Programs in a terminal, and what is on its screen afterwards."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.support.processes import ROOT, environment

# A control sequence, a character that moves the cursor, or a text.
_PARTS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|([\r\n])|([^\x1b\r\n]+)")


@dataclass(frozen=True)
class Session:
    """A program that has ended: its exit status, all that it wrote, and what its terminal shows."""

    status: int
    written: str

    @property
    def screen(self) -> str:
        return shown(self.written)


def in_terminal(command: Sequence[str], *, interrupt_at: str = "", **variables: str) -> Session:
    """Run a program in a terminal of its own, 120 characters wide.

    `interrupt_at`: send what Ctrl-C sends once this was written.
    """
    ours, theirs = pty.openpty()
    use = environment(TERM="xterm", COLUMNS="120", LINES="40", **variables)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=use)
    os.close(theirs)
    written = b""
    try:
        with suppress(OSError):  # the program has ended
            while part := os.read(ours, 65_536):
                written += part
                if interrupt_at and interrupt_at.encode() in written:
                    process.send_signal(signal.SIGINT)
                    interrupt_at = ""
        return Session(process.wait(60), written.decode(errors="replace").replace("\r\n", "\n"))
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def shown(written: str) -> str:
    """Return the lines that a terminal shows after this was written to it. Colours and the like are left out."""
    lines, row, column = [""], 0, 0
    for number, command, move, text in (match.groups() for match in _PARTS.finditer(written)):
        if text:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
        elif move == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif move == "\r":
            column = 0
        elif command == "A":
            row = max(0, row - int(number or 1))
        elif command == "K":
            lines[row] = "" if number == "2" else lines[row][:column]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"
