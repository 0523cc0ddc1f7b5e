"""The processes of `python main.py`: an embedded Valkey where none is configured, the API, and workers.

A process that ends is started again, so that a kill costs no more than a restart. On a stop signal, this process stops
the others first and Valkey last, because the others write their results to Valkey. When this process is killed, the
others notice that their standard input has closed, and stop by themselves.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from client.valkey import embedded as embedded_valkey
from errors import SettingsError
from settings import ROOT, Settings
from settings.stop_times import PROCESS_STOP_SECONDS

log = logging.getLogger("main")

TICK_SECONDS = 0.2
# The delay before a restart doubles with each restart, up to the longest delay. After a run of HEALTHY_SECONDS the next
# restart has the first delay again.
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 10.0
HEALTHY_SECONDS = 10.0
# The exit status of a process that cannot work with its settings. A restart would not help.
EXIT_CONFIG = 2


class ManagedProcess:
    """One process, started again with growing delays when it ends."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._delay = FIRST_DELAY_SECONDS
        self._restart_at = 0.0

    def start(self) -> None:
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *self._arguments, "--supervised"],
            stdin=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the others in order
        )

    def keep_alive(self) -> None:
        """Start the process again if it ended. Raises SettingsError when it ended because of a wrong setting."""
        if self._process is None:
            if time.monotonic() >= self._restart_at:
                self.start()
            return
        status = self._process.poll()
        if status is None:
            return
        if status == EXIT_CONFIG:
            raise SettingsError(f"the {self.name} cannot start: its message is above")
        if time.monotonic() - self._started_at > HEALTHY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        log.warning("the %s ended with status %s; starting it again in %.1f s", self.name, status, self._delay)
        self._process = None
        self._restart_at = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait for the process to end, and kill it after the deadline, in monotonic seconds."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning(
                "the %s did not stop in time and was killed; its jobs run again after the next start", self.name
            )
            self._process.kill()
            self._process.wait()


def run_all(settings: Settings, started: Callable[[str], None]) -> None:
    """Run everything until SIGINT or SIGTERM. Calls `started` with the URL of the queues.

    Raises SettingsError when a part cannot work with its settings.
    """
    stop = threading.Event()
    _on_stop_signal(stop)
    with embedded_valkey.serving(settings, alone=True) as url:
        environment = os.environ | {"VALKEY_URL": url, "PORT": str(settings.port)}
        workers = settings.worker_processes
        children = [
            ManagedProcess("API", ["api"], environment),
            *(ManagedProcess(f"worker {n + 1}", ["worker"], environment) for n in range(workers)),
        ]
        try:
            for child in children:
                child.start()
            started(url)
            while not stop.wait(TICK_SECONDS):
                for child in children:
                    child.keep_alive()
        finally:  # Valkey still runs here, so that the others can write the results of their last jobs
            for child in children:
                child.terminate()
            deadline = time.monotonic() + PROCESS_STOP_SECONDS
            for child in children:
                child.wait(deadline)


def stop_with_parent() -> None:
    """Send SIGTERM to this process when the process that started it is gone."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def stop_with_terminal() -> None:
    """Let SIGHUP, the end of the terminal, end this process as SIGTERM does, unless `nohup` ignores SIGHUP."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda _number, _frame: signal.raise_signal(signal.SIGTERM))


def _on_stop_signal(stop: threading.Event) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
