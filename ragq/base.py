"""What both clients have in common."""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

from ragq.calls import LONGEST_WAIT_SECONDS, OnSent, OutgoingFile
from ragq.config import load_config
from ragq.errors import NotFinished, UploadFailed
from ragq.models import Upload
from ragq.retrying import Attempts, Server

# Between two reads of something that may end at any moment.
PAUSE_SECONDS = 0.5


class ClientBase:
    """The server, the key and the limits of a client."""

    def __init__(self, url: str | None, api_key: str | None, *, timeout: float, retry_seconds: float) -> None:
        config = load_config(url, api_key)
        self._server = Server(config.url)
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._headers = {"User-Agent": f"ragq/{package_version()}"}
        if config.api_key is not None:
            self._headers["Authorization"] = f"Bearer {config.api_key}"

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at its end."""
        return self._server.url

    def _attempts(self) -> Attempts:
        return Attempts(self._server, self._retry_seconds)


class Deadline:
    """The time to wait for the end of a job; `seconds` None for as long as it takes."""

    def __init__(self, seconds: float | None) -> None:
        self._ends_at = None if seconds is None else time.monotonic() + seconds
        self._asked_at = time.monotonic()

    def next_wait(self, job_id: str) -> float:
        """Return how long the next request may be held, in seconds. Raises NotFinished once the time is over."""
        self._asked_at = time.monotonic()
        if self._ends_at is None:
            return LONGEST_WAIT_SECONDS
        left = self._ends_at - self._asked_at
        if left <= 0:
            raise NotFinished(job_id)
        return min(left, LONGEST_WAIT_SECONDS)

    def pause(self) -> float:
        """Return the seconds to pause, so that a server that holds no request is not asked without end."""
        return max(0.0, PAUSE_SECONDS - (time.monotonic() - self._asked_at))


def outgoing(file: str | Path | BinaryIO, name: str | None, on_sent: OnSent | None) -> OutgoingFile:
    """Return a file to send: a path, or a file that is open and can be read from its beginning again."""
    source = Path(file) if isinstance(file, str) else file
    name = name or Path(str(getattr(file, "name", file))).name
    return OutgoingFile(source, name, on_sent or _ignore)


def _ignore(_sent: int, _size: int) -> None:
    pass


def ready(upload: Upload) -> bool:
    """Return True if the document is ready, False if it is being indexed. Raises UploadFailed."""
    if upload.status == "failed":
        raise UploadFailed(upload)
    return upload.status == "ready"


def package_version() -> str:
    """Return the version of the installed package; "0" in a tree that is not installed."""
    try:
        return version("ragq")
    except PackageNotFoundError:
        return "0"
