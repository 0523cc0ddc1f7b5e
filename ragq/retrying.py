"""When a request is made again, and after how long."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from ragq.errors import RagqError, RateLimited, RequestRefused, ServerBusy, ServerUnreachable

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 5.0


@dataclass
class Server:
    """The server of a client. `reached`: it has answered before."""

    url: str
    reached: bool = False


class Attempts:
    """The attempts of one request, for at most `seconds`. The delays between them double.

    A server that was never reached is not there, or has another address, so a connection that it refuses is not tried
    again.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Begin again after a success."""
        self._deadline = time.monotonic() + self._seconds
        self._delay = FIRST_DELAY_SECONDS

    def next_delay(self, error: httpx.TransportError | RequestRefused | None) -> float:
        """Return the seconds to wait before the next attempt; None as the error: a stream ended before the job did.

        Raises RagqError if another attempt would not help, or would come too late.
        """
        final = _final(error, self._server.url)
        if not self._may_pass(error):
            raise final from error
        delay = self._delay * random.uniform(0.5, 1)  # noqa: S311  so that many clients do not come back at once
        self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)
        if isinstance(error, RequestRefused) and error.retry_after_seconds is not None:
            delay = max(delay, error.retry_after_seconds)
        if time.monotonic() + delay > self._deadline:
            raise final from error
        return delay

    def _may_pass(self, error: httpx.TransportError | RequestRefused | None) -> bool:
        """Return True for a failure that passes with time."""
        if isinstance(error, httpx.ConnectError):
            return self._server.reached
        if isinstance(error, RequestRefused):
            return isinstance(error, RateLimited | ServerBusy)
        return not isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)


def _final(error: httpx.TransportError | RequestRefused | None, url: str) -> RagqError:
    if isinstance(error, RequestRefused):
        return error
    if error is None:
        return ServerUnreachable(f"the stream of {url} ended again and again before the job did")
    if isinstance(error, httpx.ConnectError):
        return ServerUnreachable(f"no server answers at {url} ({error})")
    if isinstance(error, httpx.TimeoutException):
        return ServerUnreachable(f"{url} did not answer in time")
    return ServerUnreachable(f"the connection to {url} broke off ({error or type(error).__name__})")


def retry_after_seconds(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date; None for anything else."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else None
