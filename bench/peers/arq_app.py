"""arq: `arq arq_app.WorkerSettings`. `python arq_app.py N` enqueues."""

import asyncio
import sys
from typing import Any

import work
from arq import create_pool
from arq.connections import RedisSettings


async def job(_context: Any) -> None:
    await work.async_job()


class WorkerSettings:
    functions = [job]
    redis_settings = RedisSettings.from_dsn(work.URL)
    max_jobs = work.CONCURRENCY
    # By default it looks for jobs twice a second.
    poll_delay = 0.01


async def main() -> None:
    pool = await create_pool(WorkerSettings.redis_settings)
    for _ in range(int(sys.argv[1])):
        await pool.enqueue_job("job")


if __name__ == "__main__":
    asyncio.run(main())
