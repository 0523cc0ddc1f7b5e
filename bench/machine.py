"""Processes that are measured: started in a session of their own, looked at through /proc, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
RQ = str(Path(sys.executable).with_name("rq"))
TICKS = os.sysconf("SC_CLK_TCK")
_UTIME = 11  # index in /proc/PID/stat after the name; then stime, and both times of ended children


@dataclass
class Program:
    """A process and all its descendants."""

    process: subprocess.Popen[bytes]

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def pids(self) -> list[int]:
        """Return the processes of its session."""
        return [pid for pid in _all_pids() if _stat(pid)[3:4] == [str(self.process.pid)]]

    def cpu_seconds(self) -> float:
        """Return the CPU time of the session, with that of children that ended."""
        return sum(map(cpu_seconds_of, self.pids()))

    def megabytes(self) -> float:
        """Return the memory of the session in MiB. Shared pages are counted once."""
        return sum(_rollup(self.pids(), "Pss")) / 1024

    def anonymous_megabytes(self) -> float:
        """Return the memory of the session that no file backs, in MiB; of one process without children it is RssAnon.

        Pages that processes share count once.
        """
        pids = self.pids()
        # smaps_rollup walks every page, which takes ms for each process.
        kilobytes = [_kilobytes(pids[0], "status", "RssAnon")] if len(pids) == 1 else _rollup(pids, "Pss_Anon")
        return sum(kilobytes) / 1024

    def peak_megabytes(self) -> float:
        """Return the highest RSS of the process so far, in MiB; of several processes what they use now."""
        pids = self.pids()
        return _kilobytes(pids[0], "status", "VmHWM") / 1024 if len(pids) == 1 else self.megabytes()


@contextmanager
def program(
    arguments: list[str], environment: Mapping[str, str], *, log: Path, cwd: Path = ROOT, copies: int = 1
) -> Iterator[list[Program]]:
    """Run copies of a program until the end of the block."""
    with log.open("ab") as output:
        programs = [Program(_start(arguments, environment, output, cwd)) for _ in range(copies)]
    try:
        yield programs
    finally:
        for each in programs:
            with suppress(ProcessLookupError):
                os.killpg(each.process.pid, signal.SIGKILL)
        for each in programs:
            for pid in each.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            each.process.wait()


def wait_for(condition: Callable[[], object], *, seconds: float) -> bool:
    """Wait for a condition. Returns False if it did not become true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU time of a process and of its children that ended; 0 when it is gone."""
    return sum(map(int, _stat(pid)[_UTIME : _UTIME + 4])) / TICKS


def _start(
    arguments: list[str], environment: Mapping[str, str], output: IO[bytes], cwd: Path
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=dict(environment),
        start_new_session=True,
    )


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _rollup(pids: list[int], name: str) -> list[int]:
    return [_kilobytes(pid, "smaps_rollup", name) for pid in pids]


def _kilobytes(pid: int, file: str, name: str) -> int:
    """Return a size of /proc/PID/FILE in KiB; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
