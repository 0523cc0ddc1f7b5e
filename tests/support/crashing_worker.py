"""A worker that kills itself at a chosen change of a store: `python -m tests.support.crashing_worker 3 after`."""

from __future__ import annotations

import os
import signal
import sys

from redis import Redis
from rq import SimpleWorker

from queues import wiring
from settings import get_settings
from tests.support.faults import Fault, faulty


def main() -> None:
    settings = get_settings()
    opened = wiring.open_services(settings)
    fault = Fault(int(sys.argv[1]), after=sys.argv[2] == "after", crash=lambda: os.kill(os.getpid(), signal.SIGKILL))
    wiring.set_services(faulty(opened, fault))
    with Redis.from_url(settings.queue_url) as connection:
        SimpleWorker(["rag_documents"], connection=connection).work(burst=True, logging_level="ERROR")
    opened.close()


if __name__ == "__main__":
    main()
