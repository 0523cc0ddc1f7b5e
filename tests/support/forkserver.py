"""Programs of the project as forks of one process that has imported the project.

To start an API takes 1.65 s of CPU, a worker 1.25 s, and a fork of either 0.3 s. `start` sends a command to this
process, which forks, and the fork runs the command as a new interpreter would: with its own arguments, environment,
output and session. Where forking is not possible `start` returns None.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RQ = str(Path(sys.executable).with_name("rq"))
MODULES = (
    *("index", "main", "server", "uvicorn", "api.uvicorn_protocol", "uvicorn.lifespan.on", "uvicorn.loops.auto"),
    *("queues.run", "queues.stock", "queues.worker", "rq.cli", "cli.audit", "cli.reindex", "lxml.etree", "markdown_it"),
    *("client.qdrant.embedded", "client.qdrant.server", "client.llm.completions", "client.llm.query_embeddings"),
)
LONGEST_MESSAGE = 1 << 20
_FORKS = sys.platform == "linux"
_COVERAGE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")  # measures new interpreters, and not these forks


class Forked:
    """A fork, with the attributes of subprocess.Popen that tests use. `connection` tells its id, and later its end."""

    def __init__(self, arguments: list[str], connection: socket.socket) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._connection = connection
        self.pid = int(connection.recv(32))

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit status or the negative signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                status = int(self._connection.recv(32))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._connection.settimeout(None)
            self._connection.shutdown(socket.SHUT_WR)
            self._connection.recv(32)  # the end of file says that the id of the process is free
            self._connection.close()
            self.returncode = status
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Server:
    """The process that forks, as the tests see it. It ends when `control` is closed."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forkserver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=_environment or None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def stop(self) -> None:
        self.control.close()
        self._process.wait(20)


_server: _Server | None = None
_environment: dict[str, str] = {}


def prepare(environment: dict[str, str]) -> None:
    """Choose the environment of the process that forks, which /proc also shows of each fork."""
    _environment.update(environment)


def start(arguments: list[str], *, stdout: int, stderr: int, environment: dict[str, str]) -> Forked | None:
    """Run a command in a fork; None for a program of others, under coverage, and where forks are not possible.

    `stdout` and `stderr` are file descriptors. The folder is the project's.
    """
    global _server
    if not _FORKS or _program(arguments) is None or any(name in os.environ for name in _COVERAGE):
        return None
    if _server is None:
        _server = _Server()
    connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        message = json.dumps([arguments, environment]).encode()
        socket.send_fds(_server.control, [message], [stdout, stderr, theirs.fileno()])
    return Forked(arguments, connection)


def stop() -> None:
    """End the process that forks. The next `start` starts another."""
    global _server
    if _server is not None:
        _server.stop()
        _server = None


def _program(arguments: list[str]) -> Callable[[], object] | None:
    """Return what runs a command in this interpreter; None for a program of others."""
    match arguments:
        case [sys.executable, "-m", module, *_]:
            return partial(runpy.run_module, module, run_name="__main__", alter_sys=True)
        case [sys.executable, "main.py" | "index.py" as script, _, *_]:
            return partial(runpy.run_path, script, run_name="__main__")
        case [program, *_] if program == RQ:
            return partial(runpy.run_path, program, run_name="__main__")
    return None


@dataclass
class _Command:
    """What a fork runs."""

    arguments: list[str]
    environment: dict[str, str]
    outputs: list[int]

    def run(self) -> None:
        """Run as a new interpreter would."""
        for number, output in enumerate(self.outputs, start=1):
            os.dup2(output, number)
            os.close(output)
        os.environ.clear()
        os.environ.update(self.environment)
        program = _program(self.arguments)
        assert program is not None
        in_python = self.arguments[0] == sys.executable
        sys.argv = self.arguments[1:] if in_python else self.arguments
        if sys.argv[0] == "-m":
            sys.argv = sys.argv[1:]
        sys.orig_argv = self.arguments if in_python else [sys.executable, *self.arguments]
        program()


@dataclass
class _Forks:
    """The loop of the process that forks."""

    control: socket.socket
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def serve(self) -> _Command | None:
        """Fork until the tests end. Returns the command in each fork, and None in this process."""
        self.selector.register(self.control, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.data is not None:
                    key.data()
                    continue
                message, files, _, _ = socket.recv_fds(self.control, LONGEST_MESSAGE, 3)
                if not message:
                    return None
                arguments, environment = json.loads(message)
                connection = socket.socket(fileno=files.pop())
                pid = os.fork()
                if pid == 0:
                    os.setsid()  # before the test knows the id, with which it may kill the group
                    connection.send(str(os.getpid()).encode())
                    connection.close()
                    self._close()
                    return _Command(arguments, environment, files)
                for file in files:
                    os.close(file)
                self._watch(pid, connection)

    def _watch(self, pid: int, connection: socket.socket) -> None:
        end = os.pidfd_open(pid)
        self.selector.register(end, selectors.EVENT_READ, partial(self._ended, pid, end, connection))

    def _ended(self, pid: int, end: int, connection: socket.socket) -> None:
        """Tell the test how a process ended. Its id stays taken until the test has read that, as with Popen."""
        self.selector.unregister(end)
        os.close(end)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        with suppress(OSError):
            connection.send(str(status).encode())
        self.selector.register(connection, selectors.EVENT_READ, partial(self._reap, pid, connection))

    def _reap(self, pid: int, connection: socket.socket) -> None:
        self.selector.unregister(connection)
        os.waitpid(pid, 0)
        connection.close()

    def _close(self) -> None:
        """Close in a fork what belongs to the loop."""
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            else:
                os.close(key.fd)
        for key in list(self.selector.get_map().values()):
            if isinstance(key.data, partial):
                key.data.args[-1].close()
        self.selector.close()


def _main() -> None:
    for name in MODULES:
        import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the pages of what is imported
    command = _Forks(socket.socket(fileno=int(sys.argv[1]))).serve()
    if command is not None:
        command.run()


if __name__ == "__main__":
    _main()
