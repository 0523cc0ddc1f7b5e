"""The processes of `python main.py`: an embedded Valkey where none is configured, API processes, and workers.

Several API processes share one socket. This process binds the socket and keeps it open, so that a connection that no
API process has accepted yet survives the death of any of them. The process that is free accepts next: of 1,000 streams
opened at once, two processes took 445 and 555.

A process that ends is started again, so that a kill costs no more than a restart. On a stop signal, this process stops
the others first and Valkey last, because the others write their results to Valkey. When this process is killed, the
others notice that their standard input has closed, and stop by themselves.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
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
    """One process, started again with growing delays when it ends. `listener`: a socket for the process to inherit."""

    def __init__(
        self, name: str, arguments: list[str], environment: dict[str, str], listener: socket.socket | None = None
    ) -> None:
        self.name = name
        self._inherited = () if listener is None else (listener.fileno(),)
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
            pass_fds=self._inherited,
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


def run_all(settings: Settings, listener: socket.socket, started: Callable[[str], None]) -> None:
    """Run everything until SIGINT or SIGTERM. Calls `started` with the URL of the queues.

    `listener`: a socket bound to the address of the API.
    Raises SettingsError when a part cannot work with its settings.
    """
    stop = StopSignal()
    with embedded_valkey.serving(settings, alone=True) as url:
        environment = _environment(settings, url)
        workers = [ManagedProcess(f"worker {n + 1}", ["worker"], environment) for n in range(settings.worker_processes)]
        supervise([*_apis(settings, url, listener), *workers], listener, stop, started=lambda: started(url))


def run_apis(settings: Settings, listener: socket.socket) -> None:
    """Run the API processes until SIGINT or SIGTERM. Parameters and errors as for `run_all`."""
    stop = StopSignal()
    with embedded_valkey.serving(settings) as url:
        log.info("%d API processes on %s, port %d", settings.api_processes, settings.host, settings.port)
        supervise(_apis(settings, url, listener), listener, stop)


def _apis(settings: Settings, url: str, listener: socket.socket) -> list[ManagedProcess]:
    environment = _environment(settings, url)
    if settings.api_processes == 1:
        listener.close()  # the only process opens the address itself
        return [ManagedProcess("API", ["api"], environment)]
    arguments = ["api", f"--listen-fd={listener.fileno()}"]
    return [ManagedProcess(f"API {n + 1}", arguments, environment, listener) for n in range(settings.api_processes)]


def _environment(settings: Settings, url: str) -> dict[str, str]:
    return os.environ | {"VALKEY_URL": url, "PORT": str(settings.port)}


def supervise(
    children: Sequence[ManagedProcess],
    listener: socket.socket,
    stop: StopSignal,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Start processes and keep them running until the stop signal, then stop them."""
    try:
        for child in children:
            child.start()
        started()
        while not stop.received:
            time.sleep(TICK_SECONDS)
            for child in children:
                child.keep_alive()
    finally:  # Valkey still runs here, so that the others can write the results of their last jobs
        listener.close()  # from here on a connection is refused
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


class StopSignal:
    """Remembers SIGINT and SIGTERM from now on.

    No threading.Event: a handler that runs while this thread holds the lock of the event would wait for itself.
    """

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
