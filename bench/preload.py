"""What a stock worker imports before it forks, so that no job pays for it: `rq worker -c bench.preload`."""

from bench.queue_jobs import parts

parts()
