"""Programs of others that ask the service, in an environment of their own: `make .venv/clients/installed`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

# `make test` installs them; where CI is set, they must be there.
CLIENTS = Path(sys.prefix) / "clients"
PYTHON = str(CLIENTS / "bin" / "python")
CI = bool(os.environ.get("CI"))
needs_clients = pytest.mark.skipif(
    not CI and not (CLIENTS / "installed").exists(), reason="make .venv/clients/installed"
)
needs_node = pytest.mark.skipif(shutil.which("npm") is None, reason="Node is not on this machine")


def run_client(base_url: object, folder: Path, *command: str, **variables: str) -> str:
    """Run a program of the other environment in a folder, with the address of a service; return what it printed."""
    address = {"OPENAI_BASE_URL": f"{base_url}/v1", "OPENAI_API_KEY": "not-needed"}
    # Both programs would send elsewhere, and wait for it.
    silent = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment() | address | silent | variables,
        capture_output=True,
        text=True,
        timeout=110,  # the first run compiles LiteLLM: 9 s of CPU
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_node(base_url: object, script: str) -> str:
    """Run a script of Node beside the packages of other clients; return what it printed."""
    return run_client(base_url, CLIENTS, "node", "--input-type=module", "-e", script)
