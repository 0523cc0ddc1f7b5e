"""One connection to Valkey for all tasks of an event loop.

All commands of one iteration of the loop leave in one write, and the replies come back in the same order. A pool gives
each command a connection, two system calls and a time-out of its own.

Nothing here counts the time that this process takes for itself. Time is counted in ticks of the loop, and between two
ticks the loop reads what has arrived: a loop that was busy for seconds counts one tick. So a call fails because Valkey
is silent or away, never because many calls were made at once.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ValkeyConnectionError
from redis.exceptions import DataError, InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as ValkeyTimeoutError

# A call fails after this time without a reply, whatever the reason. A client is to know within 2.5 s, and a thousand
# refusals at once take 0.5 s of CPU.
CALL_SECONDS: Final = 1.9
# A connection on which replies are due and nothing has arrived for this time is broken.
SILENCE_SECONDS: Final = 0.9
TICK_SECONDS: Final = 0.1
# The largest number of bytes in calls without a reply. Beyond, a call is refused at once.
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024

_NOT_ENOUGH_DATA: Final = object()

Command = Sequence[Any]


class Multiplexer:
    """Sends the calls of many tasks of one event loop over one connection. Connects on first use.

    `make_connection` returns a connection of redis-py that is not connected yet: redis-py opens it, with TLS, password
    and database, and then hands it over.

    A call whose connection breaks is sent once more, as redis-py does: a command may therefore run twice.
    """

    def __init__(
        self,
        make_connection: Callable[[], AbstractConnection],
        *,
        call_seconds: float = CALL_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._make_connection = make_connection
        self._call_ticks = round(call_seconds / TICK_SECONDS)
        self._silence_ticks = round(silence_seconds / TICK_SECONDS)
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._unsent: deque[_Call] = deque()
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._flushing = False

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, with no other between them, and return their replies; an error reply is returned as such.

        Raises RedisError when Valkey cannot be reached or does not answer in time; at once when too many calls wait, or
        when one has waited for `silence_seconds`. When the calls that wait have failed, the next is tried again.
        """
        packed = b"".join([_pack(command) for command in commands])
        if self._waiting_bytes + len(packed) > self._max_waiting_bytes:
            raise ValkeyConnectionError("too many calls wait for Valkey")
        if self._is_behind():
            raise ValkeyTimeoutError("earlier calls have waited for too long")
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future(), packed, len(commands), self._ticks)
        self._waiting_bytes += len(packed)
        self._unsent.append(call)
        if self._connection is None:
            if self._connecting is None:
                self._connecting = loop.create_task(self._connect(), name="valkey-connect")
        elif not self._flushing:
            self._flushing = True
            loop.call_soon(self.flush)
        if self._timer is None:
            self._timer = loop.call_later(TICK_SECONDS, self._tick)
        try:
            return await call.future
        finally:
            self._waiting_bytes -= len(packed)

    async def close(self) -> None:
        """Close the connection. The calls that wait for a reply fail."""
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._connecting
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        connection, self._connection = self._connection, None
        closed = ValkeyConnectionError("the connection to Valkey was closed")
        for call in [*(connection.sent if connection is not None else ()), *self._unsent]:
            call.fail(closed)
        self._unsent.clear()
        if connection is not None:
            connection.close()
            await connection.closed.wait()

    def flush(self) -> None:
        """Send the calls that are not sent yet, unless the connection's buffer is full."""
        self._flushing = False
        connection = self._connection
        if connection is None or connection.full:
            return
        calls = [call for call in self._unsent if not call.future.done()]  # nothing is sent for a caller that is gone
        self._unsent.clear()
        if calls:
            connection.send(calls)

    def lost(self, connection: _Connection, error: RedisError) -> None:
        """Send the calls of a broken connection once more, or fail those that were sent twice."""
        if connection is not self._connection:
            return
        self._connection = None
        for call in reversed(connection.sent):
            if call.future.done():
                continue
            if call.resent:
                call.fail(error)
            else:
                call.resent = True
                self._unsent.appendleft(call)
        if self._unsent:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="valkey-connect")

    def _is_behind(self) -> bool:
        """Return True if a call has waited for its reply for longer than Valkey may be silent."""
        connection = self._connection
        waiting = connection.sent if connection is not None and connection.sent else self._unsent
        return bool(waiting) and self._ticks - waiting[0].tick >= self._silence_ticks

    async def _connect(self) -> None:
        connection = self._make_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            self._connection = _Connection(self, connection)
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise
        except (RedisError, OSError) as error:
            self._fail_unsent(error)
        except RuntimeError as error:  # uvloop, when the peer resets the connection while it is set up
            self._fail_unsent(ValkeyConnectionError(str(error)))
        finally:
            self._connecting = None
        self.flush()

    def _fail_unsent(self, error: Exception) -> None:
        while self._unsent:
            self._unsent.popleft().fail(error)

    def _fail_late_calls(self) -> None:
        latest = self._ticks - self._call_ticks
        for calls in (self._connection.sent if self._connection is not None else (), self._unsent):
            for call in calls:  # in the order in which they were made
                if call.tick > latest:
                    break
                call.fail(ValkeyTimeoutError("Valkey did not answer in time"))

    def _tick(self) -> None:
        self._timer = None
        self._ticks += 1
        connection = self._connection
        if connection is not None and connection.sent:
            connection.silent_ticks += 1
            if connection.silent_ticks >= self._silence_ticks:
                connection.abort()
                self.lost(connection, ValkeyTimeoutError("Valkey is silent"))
        self._fail_late_calls()
        while self._unsent and self._unsent[0].future.done():
            self._unsent.popleft()
        if self._unsent or (self._connection is not None and self._connection.sent):
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)


class _Call:
    """Commands that were sent or will be, and their replies so far."""

    __slots__ = ("expected", "future", "packed", "replies", "resent", "tick")

    def __init__(self, future: asyncio.Future[list[Any]], packed: bytes, expected: int, tick: int) -> None:
        self.future = future
        self.packed = packed
        self.expected = expected
        self.tick = tick
        self.replies: list[Any] = []
        self.resent = False

    def fail(self, error: Exception) -> None:
        """End the call, unless it has ended."""
        if not self.future.done():
            # An exception of its own for each task: a raise adds its traceback to the exception.
            self.future.set_exception(copy.copy(error))


class _Connection(asyncio.Protocol):
    """An open connection, which redis-py has set up."""

    def __init__(self, owner: Multiplexer, connection: AbstractConnection) -> None:
        self._owner = owner
        self.sent: deque[_Call] = deque()
        self.silent_ticks = 0
        self.full = False
        self.closed = asyncio.Event()
        encoder = connection.encoder
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001  redis-py has no public way to hand over
            notEnoughData=_NOT_ENOUGH_DATA,
            encoding=encoder.encoding if encoder.decode_responses else None,
            errors=encoder.encoding_errors,
        )
        # The writer is kept: it would close the transport when it is deleted.
        self._writer = cast("asyncio.StreamWriter", connection._writer)  # noqa: SLF001
        connection._writer = connection._reader = None  # noqa: SLF001
        self._transport = cast("asyncio.Transport", self._writer.transport)
        self._transport.set_protocol(self)

    def send(self, calls: Sequence[_Call]) -> None:
        """Send calls in one write."""
        if not self.sent:
            self.silent_ticks = 0
        self.sent.extend(calls)
        for call in calls:
            call.replies.clear()  # of a connection that broke between two replies
        try:
            self._transport.write(b"".join([call.packed for call in calls]))
        except RuntimeError as error:  # uvloop, when the peer has just reset the connection
            self._owner.lost(self, ValkeyConnectionError(str(error)))

    def data_received(self, data: bytes) -> None:
        self.silent_ticks = 0
        self._reader.feed(data)
        sent = self.sent
        try:
            while sent and (reply := self._reader.gets()) is not _NOT_ENOUGH_DATA:
                if isinstance(reply, hiredis.PushNotification):
                    continue
                call = sent[0]
                call.replies.append(reply)
                if len(call.replies) == call.expected:
                    sent.popleft()
                    if not call.future.done():
                        call.future.set_result(call.replies)
                if isinstance(reply, ReadOnlyError):  # the server is no longer the primary: look for the new one
                    self._transport.close()
        except RedisError as error:  # the bytes are no replies
            self.abort()
            self._owner.lost(self, error)

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._owner.lost(self, ValkeyConnectionError(f"Valkey closed the connection{f': {exc}' if exc else ''}"))

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._owner.flush()

    def close(self) -> None:
        """Close the connection when its buffer is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()


def _pack(command: Command) -> bytes:
    name = command[0]
    if isinstance(name, str) and " " in name:  # redis-py writes `SCRIPT LOAD` as one word
        command = (*name.split(), *command[1:])
    try:
        return cast("bytes", hiredis.pack_command(tuple(command)))
    except TypeError as error:
        raise DataError(str(error)) from None
