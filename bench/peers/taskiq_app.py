"""taskiq: `taskiq worker taskiq_app:broker --workers 1`. `python taskiq_app.py N` enqueues."""

import asyncio
import sys

import work
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(url=work.URL).with_result_backend(RedisAsyncResultBackend(redis_url=work.URL))


@broker.task(task_name="job")
async def job() -> None:
    await work.async_job()


async def main() -> None:
    await broker.startup()
    for _ in range(int(sys.argv[1])):
        await job.kiq()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
