"""Faults of the machine for one program: a slow disk, a full disk, a clock that steps. Linux only."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

SOURCE = Path(__file__).with_name("faults.c")
COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
AVAILABLE = sys.platform == "linux" and COMPILER is not None


class FaultsNow(ctypes.Structure):
    """The faults in effect, in memory shared with the program, which counts in `syncing` how many syncs run."""

    _fields_ = (
        ("clock_seconds", ctypes.c_int64),
        ("sync_ms", ctypes.c_int32),
        ("full", ctypes.c_int32),
        ("syncing", ctypes.c_int32),
    )
    if TYPE_CHECKING:
        clock_seconds: int
        sync_ms: int
        full: int
        syncing: int


class Faults:
    """The faults of the programs that are started with `environment`. They may change while the programs run."""

    def __init__(self, folder: Path) -> None:
        """Build the library in a folder. Needs AVAILABLE."""
        library, shared = folder / "faults.so", folder / "faults"
        subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        shared.write_bytes(bytes(ctypes.sizeof(FaultsNow)))
        with shared.open("r+b") as file:
            self.now = FaultsNow.from_buffer(mmap.mmap(file.fileno(), 0))
        self.environment = {"LD_PRELOAD": str(library), "FAULTS_FILE": str(shared)}

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        """Give the faults to the programs that inherit the environment of this process and start within the block."""
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name in self.environment:
                del os.environ[name]
