"""`python main.py top`: queues, workers, rates, latencies and failures, live in a terminal or once as text."""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import redis.asyncio as aioredis
from redis import Redis
from redis.exceptions import RedisError
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from client.rq.dead_letters import DeadLetter, DeadLetters
from client.rq.overview import Overview, QueueOverview, WorkerOverview, read_overview
from client.valkey import embedded
from errors import QueueUnavailable
from observability.wording import counted
from settings import Settings, without_password

TIMEOUT_SECONDS = 2.0
FAILURES = 5
# An older heartbeat, or job that waits, is shown in red.
LATE_HEARTBEAT_SECONDS = 60.0
LONG_WAIT_SECONDS = 30.0
# Columns are left out, the rightmost first, where the terminal has fewer characters than these.
WIDE, MEDIUM = 110, 80
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Show the overview until q or Ctrl-C, or once. Raises QueueUnavailable if Valkey does not answer at first."""
    url = embedded.require_url(settings)
    with Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS) as valkey:
        try:
            overview = _look(valkey, url, settings)
        except RedisError:
            raise QueueUnavailable(f"{without_password(url)} does not answer: is it running?") from None
        console = Console(highlight=False)
        if options.once or not console.is_terminal:
            console.print(rendered(overview, width=console.width))
            return 0
        with suppress(KeyboardInterrupt):
            _follow(valkey, url, settings, overview, console, interval_seconds=options.interval)
    return 0


def _look(valkey: Redis, url: str, settings: Settings) -> Overview:
    """Read what is shown. Raises RedisError."""
    failures = asyncio.run(_newest_failures(url))
    return read_overview(valkey, ttl_seconds=settings.result_ttl_seconds, failures=failures)


async def _newest_failures(url: str) -> list[DeadLetter]:
    async with aioredis.from_url(url, socket_timeout=TIMEOUT_SECONDS) as valkey:
        return await DeadLetters(valkey).newest(FAILURES)


def _follow(
    valkey: Redis, url: str, settings: Settings, overview: Overview, console: Console, *, interval_seconds: float
) -> None:
    """Show the overview again and again, until somebody types q or Ctrl-C."""
    with _key_presses() as quit_wanted, Live(console=console, screen=True, auto_refresh=False) as live:
        away = False
        while True:
            live.update(rendered(overview, width=console.width, live=True, away=away), refresh=True)
            if quit_wanted.wait(interval_seconds):
                return
            try:
                overview, away = _look(valkey, url, settings), False
            except RedisError:
                away = True


def rendered(overview: Overview, *, width: int, live: bool = False, away: bool = False) -> Group:
    """Return what is shown at a width in characters. `away`: the overview is old, because Valkey does not answer."""
    parts: list[Table | Text] = [_headline(overview, live=live, away=away), _queues(overview.queues, width)]
    parts.append(_workers(overview.workers, width) if overview.workers else Text("no worker runs", style="red"))
    if overview.failures:
        failures = _table("failed", "at", "queue", "why")
        for letter in overview.failures:
            failures.add_row(letter.job_id, _clock(letter.ended_at), letter.queue, f"{letter.code}: {letter.detail}")
        failures.columns[3].overflow = "ellipsis"
        failures.columns[3].no_wrap = True
        parts.append(failures)
    return Group(*parts)


def _headline(overview: Overview, *, live: bool, away: bool) -> Text:
    headline = Text(f"{overview.at.astimezone():%H:%M:%S}  {counted(len(overview.workers), 'worker')}", style="bold")
    if overview.suspended:
        headline.append("  suspended by `rq suspend`", style="red")
    if away:
        headline.append("  Valkey does not answer: these figures are its last ones", style="red")
    if live:
        headline.append("  q: quit", style="dim")
    return headline


def _queues(queues: list[QueueOverview], width: int) -> Table:
    names = ["queue", "waiting", "running", "oldest", "done/min", "failed/min", "median", "95 %", "workers"]
    table = _table(*names[: _columns(width, len(names))], numbers=True)
    for queue in queues:
        late = queue.oldest_seconds is not None and queue.oldest_seconds > LONG_WAIT_SECONDS
        cells = [
            Text(queue.name),
            Text(str(queue.waiting)),
            Text(str(queue.running)),
            Text(_duration(queue.oldest_seconds), style="red" if late else ""),
            Text(str(queue.finished_per_minute)),
            Text(str(queue.failed_per_minute), style="red" if queue.failed_per_minute else ""),
            Text(_duration(queue.median_seconds)),
            Text(_duration(queue.p95_seconds)),
            Text(str(queue.workers), style="" if queue.workers else "red"),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def _workers(workers: list[WorkerOverview], width: int) -> Table:
    names = ["worker", "jobs", "state", "heartbeat", "done", "host", "queues"]
    table = _table(*names[: _columns(width, len(names))], numbers=True)
    for worker in workers:
        late = worker.heartbeat_seconds is None or worker.heartbeat_seconds > LATE_HEARTBEAT_SECONDS
        cells = [
            Text(worker.name, overflow="ellipsis", no_wrap=True),
            Text(str(worker.jobs)),
            Text(worker.state),
            Text(_duration(worker.heartbeat_seconds), style="red" if late else ""),
            Text(str(worker.done)),
            Text(worker.host),
            Text(", ".join(worker.queues)),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def _columns(width: int, names: int) -> int:
    """Return how many columns there is room for."""
    return names if width >= WIDE else min(names, 7) if width >= MEDIUM else min(names, 4)


def _table(*names: str, numbers: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for place, name in enumerate(names):
        right = numbers and place and name not in {"state", "host", "queues"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    return table


def _duration(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def _clock(timestamp: str) -> str:
    try:
        return f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}"
    except ValueError:
        return "-"


@contextmanager
def _key_presses() -> Iterator[threading.Event]:
    """Yield an event that is set once somebody types q, where the input is a terminal."""
    pressed = threading.Event()
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield pressed
        return
    import select
    import termios
    import tty

    stop, handle = threading.Event(), sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    tty.setcbreak(handle)  # without echo, and without waiting for the end of a line

    def listen() -> None:
        while not stop.is_set():
            ready, _, _ = select.select([handle], [], [], 0.1)
            if ready and sys.stdin.read(1) in {"q", "Q", ""}:
                pressed.set()
                return

    listener = threading.Thread(target=listen, name="key-presses", daemon=True)
    listener.start()
    try:
        yield pressed
    finally:
        stop.set()
        listener.join(1.0)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
