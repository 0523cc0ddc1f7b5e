"""How long a process may take to stop after SIGTERM. Each longer time leaves room for the shorter times."""

from __future__ import annotations

from typing import Final

# main.py kills a child process that has not ended by then.
PROCESS_STOP_SECONDS: Final = 30
# The time for running jobs to finish. The other 5 s are for handing unfinished jobs back and closing the stores.
WORKER_GRACE_SECONDS: Final = PROCESS_STOP_SECONDS - 5
# The time for open requests to finish. The API ends before the workers, so no request waits for a job nobody runs.
API_GRACE_SECONDS: Final = WORKER_GRACE_SECONDS - 5
# After a kill of main.py its worker keeps the embedded store until the worker has noticed, stopped and closed.
ORPHANED_WORKER_SECONDS: Final = WORKER_GRACE_SECONDS + 15
