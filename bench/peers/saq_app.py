"""saq: `saq saq_app.settings`. `python saq_app.py N` enqueues."""

import asyncio
import sys
from typing import Any

import work
from saq import Queue

queue = Queue.from_url(work.URL)


async def job(_context: Any) -> None:
    await work.async_job()


settings = {"queue": queue, "functions": [job], "concurrency": work.CONCURRENCY}


async def main() -> None:
    for _ in range(int(sys.argv[1])):
        await queue.enqueue("job", timeout=60)


if __name__ == "__main__":
    asyncio.run(main())
