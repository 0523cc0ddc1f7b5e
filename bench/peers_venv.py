"""The virtual environments of the peers, .venv-bench: their packages are no part of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.machine import ROOT

PEERS = ROOT / "bench" / "peers"
VENV = ROOT / ".venv-bench"


def make() -> None:
    """Install the peers on the first call."""
    if (VENV / "installed").exists():
        return
    print("installing the peers into .venv-bench", flush=True)
    for name, requirements in (("peers", "requirements.txt"), ("arq", "requirements-arq.txt")):
        subprocess.run([sys.executable, "-m", "venv", str(VENV / name)], check=True)
        pip = [str(VENV / name / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(PEERS / requirements)], check=True)
    (VENV / "installed").touch()


def folder(module: str) -> Path:
    """Return a peer's virtual environment: arq wants an older redis-py than celery."""
    return VENV / ("arq" if module == "arq_app" else "peers")
