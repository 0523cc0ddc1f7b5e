"""A worker that is killed between the end of a model's answer and the end of its job.

RQ imports this module in the worker: `rq worker -c tests.support.dying_worker rag_queries`. The first answer that any
worker checks kills it, once what the model said is on the job under JOB_KEY. DIED names the file that says so.
DIES is `parent` where the worker is the parent of this process.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from redis import Redis

from rag.answer import pipeline
from settings import get_settings
from tests.support.processes import wait_until

_DIED = Path(os.environ["DIED"])
_check_answer = pipeline.check_answer


def _die_or_check(*arguments: Any) -> Any:
    if not _DIED.exists():
        with Redis.from_url(get_settings().queue_url) as valkey:
            wait_until(lambda: valkey.hexists(os.environ["JOB_KEY"], "draft"))
        _DIED.touch()
        if os.environ["DIES"] == "parent":  # first, since RQ's worker fails the job of a fork that died
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return _check_answer(*arguments)


pipeline.check_answer = _die_or_check  # type: ignore[assignment]
