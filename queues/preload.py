"""Imports the modules of jobs once, before a stock worker forks: `rq worker -c queues.preload rag_queries`.

Without this each fork imports them for its job: 0.2 s offline, 1.7 s with a model and a Qdrant server.
"""

from observability import logs, tracing
from queues.wiring import preload
from settings import get_settings

logs.configure(get_settings())
preload(get_settings())
tracing.preload(get_settings())
