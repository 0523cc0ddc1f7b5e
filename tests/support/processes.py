"""Running the program as a user does: as processes, each ended with all it started."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from settings import Settings
from tests.support import forkserver
from tests.support.forkserver import ROOT, RQ, Forked

__all__ = ["PYTHON", "ROOT", "RQ"]

PYTHON = sys.executable
RUN_SECONDS = 60.0
# What the machine's own environment must not decide.
_OURS = [*(name.upper() for name in Settings.model_fields), "REDIS_URL", "RQ_REDIS_URL"]

# The Qdrant server of `make test-server`, for every process of the current test; else empty.
SERVER: dict[str, str] = {}


def environment(**variables: str) -> dict[str, str]:
    """Return an environment with only these of our variables set; the others are empty, which hides `.env` too."""
    return os.environ | dict.fromkeys(_OURS, "") | {"PYTHONUNBUFFERED": "1"} | SERVER | variables


class Running:
    """A process with its output in a file."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def ended(self, seconds: float) -> int:
        """Wait for the end and return the exit status; fail with what still runs, and what was printed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            below = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(self.process.pid)]
            raise AssertionError(f"still runs after {seconds} s, with {below}: {self.output}") from None

    def kill(self) -> None:
        """End the process and its whole group at once, as kill -9 does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing uses, from below those the system gives to outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)  # not seeded by the test run: two tests at once must differ
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Fresh(list[str]):
    """A command that `running` and `run` give a new interpreter, for tests of the start itself."""


@contextmanager
def running(arguments: list[str], log: Path, **variables: str) -> Iterator[Running]:
    """Run a program from the project's folder, in a session of its own, until the end of the block.

    An API, a worker or a command is a fork of a process that has imported it; unless it is `Fresh`, and except
    `python main.py`, which starts the others.
    """
    with log.open("ab") as output:
        process = _start(arguments, output, output, environment(**variables))
    program = Running(process, log)
    try:
        yield program
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            program.kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program from the project's folder to its end, as subprocess.run does. A fork, as `running` says."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = _start(arguments, output, errors, environment(**variables))
        try:
            status = process.wait(RUN_SECONDS)
        finally:
            Running(process, ROOT).kill()
        said = [(file.seek(0), file.read().decode())[1] for file in (output, errors)]
    return subprocess.CompletedProcess(arguments, status, *said)


def _start(
    arguments: list[str], output: IO[bytes], errors: IO[bytes], variables: dict[str, str]
) -> subprocess.Popen[bytes] | Forked:
    out, err = output.fileno(), errors.fileno()
    if not isinstance(arguments, Fresh):
        forked = forkserver.start(arguments, stdout=out, stderr=err, environment=variables)
        if forked is not None:
            return forked
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=ROOT,
        env=variables,
        start_new_session=True,
    )


def refused(*arguments: str, **variables: str) -> str:
    """Run main.py, which must not start as it is told to; return what it says."""
    done = run([PYTHON, "main.py", *arguments], **variables)
    assert done.returncode == 2
    return done.stderr


def wait_until(
    condition: Callable[[], object], *, seconds: float = 20.0, what: str | Callable[[], str] = "the condition"
) -> None:
    """Wait for a condition to become true; fail when it does not, saying `what`, which may be asked for only then."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what if isinstance(what, str) else what()} did not come true within {seconds} s")
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """Return the processes below one; none below one that has ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [one for child in map(int, children) for one in [child, *descendants(child)]]


def processes_of(folder: str) -> list[str]:
    """Return the commands of all other processes that work in a folder, or were started with its name. Linux only."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.name == str(os.getpid()) or "\nState:\tZ" in (process / "status").read_text():
                continue
            command = (process / "cmdline").read_bytes()
            told = bytes((process / "cwd").readlink()) + command + (process / "environ").read_bytes()
            if os.fsencode(folder) in told:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found
