"""The stub provider of `provider.c`: compiled on first use, started as a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("provider.c")
EMBED_MS = 50
# What the models of the stub take, in seconds.
MODEL_SECONDS = {"long": 3.0, "short": 1.014, "zero": 0.0}
TOKENS = {"long": 300, "short": 15, "zero": 15}
SENTENCES = {"long": 6, "short": 1, "zero": 1}


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the start. `late_ms`: the sum over all chunks of the time between due and sent."""

    cpu_seconds: float
    embeddings: int
    chats: int
    chunks: int
    late_ms: float
    latest_ms: float


@dataclass(frozen=True, slots=True)
class Provider:
    """A running stub."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> Stats:
        """Return the counts; `latest_ms` is the worst since the last call."""
        return Stats(**self._get("/stats"))

    def set_embed_ms(self, milliseconds: int) -> None:
        """Set how long the embedding of a question takes."""
        self._get(f"/embed-ms/{milliseconds}")

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return dict(json.load(response))


@contextmanager
def provider() -> Iterator[Provider]:
    """Run the stub. It ends with this process."""
    process = subprocess.Popen([_program(), str(EMBED_MS)], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        yield Provider(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _program() -> Path:
    """Return the compiled stub, kept in the user's folder of temporary files under a hash of its source."""
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"rag-bench-{os.getuid()}"
    program = folder / f"provider-{name}"
    if program.exists():
        return program
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("the stub provider is written in C: install a C compiler (Debian: apt install gcc) or set CC")
    folder.mkdir(mode=0o700, exist_ok=True)
    part = folder / f"{name}-{os.getpid()}"
    subprocess.run([compiler, "-O2", "-o", str(part), str(SOURCE), "-lm"], check=True)
    part.rename(program)
    return program
