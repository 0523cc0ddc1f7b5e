"""A container's conditions without one: every file system read-only but one folder, and no capability."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.servers import missing

# Mounts of its own, each writable folder bound to itself, all other mounts made read-only, and everything given up.
_ENTER = """
set -eu
writable=$1; shift
mount --bind "$writable" "$writable"
mounts=$(awk '{ print $2 }' /proc/self/mounts)
for mount in $mounts; do
    case "$mount" in "$writable"|/proc|/proc/*|/dev|/dev/*|/sys/*) continue ;; esac
    mount -o remount,bind,ro "$mount" 2> /dev/null || true
done
for folder in . /tmp /var/tmp "$HOME"; do
    if touch "$folder/.writable" 2> /dev/null; then echo "$folder can be written to" >&2; exit 97; fi
done
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


def contained(writable: Path) -> list[str]:
    """Return a command that runs the command after it in a container's conditions, with one folder to write to."""
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    if unshare is None or setpriv is None:
        missing("unshare and setpriv")
    writable.mkdir(parents=True, exist_ok=True)
    enter = [str(unshare), "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*enter, "mount", "-o", "remount,bind,ro", "/"], capture_output=True, check=False).returncode:
        missing("the right to have mounts of one's own")
    return [*enter, "/bin/sh", "-c", _ENTER, "sh", str(writable)]


def gave_up_everything(pid: int) -> bool:
    """Return True if a process has no capability and cannot get one."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd")} == {"0" * 16} and status["NoNewPrivs"] == "1"
