"""How long a process may take to stop after SIGTERM. Each time leaves room for the shorter ones within it."""

from __future__ import annotations

from typing import Final

# main.py kills a process of its own that has not ended by then.
PROCESS_STOP_SECONDS: Final = 30
# The time for running jobs to finish. The 5 s left are for handing unfinished jobs back and closing the stores.
WORKER_GRACE_SECONDS: Final = PROCESS_STOP_SECONDS - 5
# The time for open requests to finish. The API ends before the workers do, and never waits for a job nobody runs.
API_GRACE_SECONDS: Final = WORKER_GRACE_SECONDS - 5
# After a kill of main.py its worker keeps the embedded store until the worker has noticed, stopped and closed.
ORPHANED_WORKER_SECONDS: Final = WORKER_GRACE_SECONDS + 15
