"""A library that slows the disk down for a program that is started with it (LD_PRELOAD)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.servers import missing

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* While the file SLOW_DISK_MARK exists, a sync is running. */
int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *mark = getenv("SLOW_DISK_MARK"), *delay = getenv("SLOW_DISK_MILLISECONDS");
    if (mark && delay) {
        close(open(mark, O_CREAT | O_WRONLY, 0600));
        usleep(1000 * atoi(delay));
        unlink(mark);
    }
    return real(file);
}
"""


def slow_disk(folder: Path, *, milliseconds: int) -> tuple[dict[str, str], Path]:
    """Build the library; return the environment in which a sync takes that long, and the file that marks a sync."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        missing("a C compiler for Linux")
    library, mark = folder / "slow_disk.so", folder / "syncing"
    source = library.with_suffix(".c")
    source.write_text(_SOURCE)
    subprocess.run([str(compiler), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    environment = {
        "LD_PRELOAD": str(library),
        "SLOW_DISK_MARK": str(mark),
        "SLOW_DISK_MILLISECONDS": str(milliseconds),
    }
    return environment, mark
