"""dramatiq: `dramatiq dramatiq_app -p 1 -t 32`. `python dramatiq_app.py N` enqueues."""

import sys

import dramatiq
import work
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=work.URL)
broker.add_middleware(Results(backend=RedisBackend(url=work.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def job() -> int:
    work.job()
    return 1


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        job.send()
