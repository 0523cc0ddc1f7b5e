"""How long a process may take to stop after SIGTERM. Each time leaves room for the shorter ones within it."""

from __future__ import annotations

from typing import Final

# main.py kills a process of its own that has not ended by then.
PROCESS_STOP_SECONDS: Final = 30
# Running jobs may go on for so long. The 5 s left are for handing unfinished jobs back and closing the stores.
WORKER_GRACE_SECONDS: Final = PROCESS_STOP_SECONDS - 5
# Open requests may go on for so long. The API ends before the workers do, so it never waits for a job that is gone.
API_GRACE_SECONDS: Final = WORKER_GRACE_SECONDS - 5
# After a kill of main.py its worker keeps the embedded store until the worker has noticed, stopped and closed.
ORPHANED_WORKER_SECONDS: Final = WORKER_GRACE_SECONDS + 15
