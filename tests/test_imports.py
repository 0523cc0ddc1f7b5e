"""What an import costs."""

from __future__ import annotations

import subprocess

from tests.support.processes import PYTHON, ROOT


def test_importing_queues_imports_no_worker() -> None:
    look = "import queues, sys; print(sorted({'rq', 'redis', 'openai'} & set(sys.modules)), queues.RagWorker.__name__)"
    done = subprocess.run([PYTHON, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] RagWorker\n"
