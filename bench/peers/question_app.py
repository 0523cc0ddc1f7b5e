"""celery that answers real questions in threads: `celery -A bench.peers.question_app worker -P threads -c 32`.

It calls the job function of the project, outside any job of RQ: so there are no events and no cache of answers.
`python -m bench.peers.question_app` enqueues the payloads on standard input, one in each line as JSON.
"""

import json
import os
import sys

from celery import Celery
from celery.signals import worker_init
from redis import Redis

URL = os.environ["VALKEY_URL"]
COUNTS = os.environ.get("BENCH_COUNTS", "bench:counts")
app = Celery("questions", broker=URL, backend=URL)
app.conf.worker_prefetch_multiplier = 1
app.conf.task_acks_late = True
valkey = Redis.from_url(URL)


@worker_init.connect
def open_store(**_: object) -> None:
    """Own the embedded store for the life of the worker, as `main.py worker` does."""
    from queues import wiring
    from settings import get_settings

    wiring.preload(get_settings())
    wiring.set_services(wiring.open_services(get_settings(), owner=True))


@app.task(name="question")
def question(payload: dict) -> dict:
    from queues.worker import process_query

    try:
        answer = process_query(payload)
    except Exception:
        valkey.hincrby(COUNTS, "failed", 1)
        raise
    valkey.hincrby(COUNTS, "sources", len(answer["sources"]))
    valkey.hincrby(COUNTS, "answers", 1)
    return answer


if __name__ == "__main__":
    for line in sys.stdin:
        question.delay(json.loads(line))
