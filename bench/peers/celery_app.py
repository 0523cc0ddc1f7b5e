"""celery with threads: `celery -A celery_app worker -P threads`. `python celery_app.py N` enqueues."""

import sys

import work
from celery import Celery

app = Celery("bench", broker=work.URL, backend=work.URL)
app.conf.worker_prefetch_multiplier = 1
app.conf.task_acks_late = True


@app.task(name="job")
def job() -> None:
    work.job()


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        job.delay()
