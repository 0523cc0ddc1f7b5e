"""Imports what jobs need, once, for a stock worker that forks: `rq worker -c queues.preload rag_queries`.

Without it each job imports in its fork, which costs 0.2 s offline and 1.7 s with a model and a Qdrant server.
"""

from observability import logs
from queues.wiring import preload
from settings import get_settings

logs.configure(get_settings())
preload(get_settings())
