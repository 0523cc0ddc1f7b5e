"""The process that holds a job, named so that a worker on the same host can see that the process is dead.

A name is `{host}/{pid}/{start}`: the boot and the PID namespace, in which process ids mean the same; the process id;
and the time at which the process started, in ticks since the boot, so that a reused process id is another process.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

# Numbers of fields of /proc/PID/stat.
_STATE, _START = 3, 22
_ENDED = {"Z", "X"}  # a process that has ended, and that its parent has not yet asked about


@cache
def host() -> str:
    """Return the name of this boot and PID namespace; empty on systems without /proc, where no process counts as dead.

    Two containers on one machine have different names.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""
    return f"{boot}:{namespace}"


def name_of(pid: int) -> str:
    """Return the name of a process of this host; empty where processes cannot be named."""
    stat = _read_stat(pid)
    return f"{host()}/{pid}/{stat[_START]}" if host() and stat else ""


def current() -> str:
    """Return the name of this process."""
    return name_of(os.getpid())


def is_dead(name: str) -> bool:
    """Return True if the process is certainly dead: of this host, and ended or replaced by another process."""
    where, _, rest = name.partition("/")
    pid, _, start = rest.partition("/")
    if not where or where != host() or not pid.isdecimal():
        return False
    stat = _read_stat(int(pid))
    return stat is None or stat[_START] != start or stat[_STATE] in _ENDED


def _read_stat(pid: int) -> dict[int, str] | None:
    """Return the fields of /proc/PID/stat by number; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the second field, the name of the program, may have spaces
    return dict(enumerate(fields, start=_STATE))
