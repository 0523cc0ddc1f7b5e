"""A stop signal ends main.py wherever its loop is at that moment."""

from __future__ import annotations

import sys

from tests.support.processes import run

PROGRAM = """
import random, signal, socket
from cli import processes
processes.TICK_SECONDS = 1e-5
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
stops = 0
for _ in range(10_000):
    stop = processes.StopSignal()
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-4))
    processes.supervise([], socket.socket(), stop)
    stops += 1
print(stops)
"""


def test_ten_thousand_stops_at_any_moment_all_end() -> None:
    assert run([sys.executable, "-c", PROGRAM]).stdout == "10000\n"
