"""One connection to Valkey for all tasks: who gets which reply, what breaks, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import hiredis
import pytest
from redis import Redis
from redis.exceptions import BusyLoadingError, DataError, RedisError, ResponseError, WatchError
from redis.exceptions import ConnectionError as ValkeyConnectionError
from redis.exceptions import TimeoutError as ValkeyTimeoutError

from client.valkey.multiplexed import MultiplexedRedis, open_multiplexed

WITHIN = 20.0  # a bound on what would otherwise hang


class Proxy:
    """Passes bytes between clients and a server, and can be told to lose them."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._writers: list[asyncio.StreamWriter] = []
        self.writes: list[bytes] = []
        self.deaf = False  # True: what clients send is lost
        self.mute = False  # True: what the server replies is lost
        self.connections = 0
        self._written = asyncio.Event()
        self._lost: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self.connections += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers += [writer, server_writer]
        await asyncio.gather(self._pump(reader, server_writer, from_client=True), self._pump(server_reader, writer))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1024 * 1024):
                if from_client:
                    self.writes.append(data)
                    self._written.set()
                if not (self.deaf if from_client else self.mute) and writer not in self._lost:
                    writer.write(data)
        writer.close()

    async def until_written(self, text: bytes) -> None:
        """Wait until the last write of a client holds a text."""
        while text not in self.writes[-1]:
            self._written.clear()
            await self._written.wait()

    def lose(self) -> None:
        """Lose what is sent on the open connections from now on, both ways, without closing them."""
        self._lost.update(self._writers)

    def cut(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Yield a proxy of the server at a URL, and the proxy's URL."""
    address, _, port = url.rpartition(":")
    between = Proxy(int(port))
    server = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    try:
        yield between, f"{address}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        between.cut()


@asynccontextmanager
async def client(url: str, **options: float) -> AsyncIterator[MultiplexedRedis]:
    valkey = open_multiplexed(url, **options)
    try:
        yield valkey
    finally:
        await valkey.aclose()
        await valkey.connection_pool.disconnect()


def run(
    test: Callable[[], Coroutine[Any, Any, None]], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WITHIN):
            await test()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(bounded())


def test_many_tasks_get_their_own_replies_over_one_connection_in_few_writes(valkey_url: str) -> None:
    async def scenario() -> None:
        async with proxy(valkey_url) as (between, url), client(url) as valkey:
            await valkey.ping()
            between.writes.clear()
            assert await asyncio.gather(*(valkey.set(f"rag:{n}", n) for n in range(500))) == [True] * 500
            assert len(between.writes) < 50
            found = await asyncio.gather(*(valkey.get(f"rag:{n}") for n in range(500)))
            assert found == [str(n).encode() for n in range(500)]
            assert between.connections == 1

    run(scenario)


def test_an_error_reply_is_raised_to_its_caller_alone(valkey_url: str) -> None:
    async def scenario() -> None:
        async with client(valkey_url) as valkey:
            await valkey.set("rag:text", "a")
            calls = valkey.get("rag:text"), valkey.llen("rag:text"), valkey.get("rag:text")
            first, error, last = await asyncio.gather(*cast("list[Awaitable[Any]]", calls), return_exceptions=True)
            assert (first, last) == (b"a", b"a")
            assert isinstance(error, ResponseError)
            with pytest.raises(DataError):
                await valkey.set("rag:text", cast("Any", object()))

    run(scenario)


def test_replies_are_those_of_redis_py(valkey_url: str) -> None:
    async def scenario() -> None:
        async with client(valkey_url) as valkey:
            await valkey.hset("rag:h", mapping={"a": "1", "b": "2"})
            assert await cast("Awaitable[Any]", valkey.hgetall("rag:h")) == {b"a": b"1", b"b": b"2"}
            await valkey.zadd("rag:z", {"x": 1.5})
            assert await valkey.zscore("rag:z", "x") == 1.5
            await valkey.xadd("rag:s", {"data": "1"}, id="1-0")
            assert await valkey.xrange("rag:s") == [(b"1-0", {b"data": b"1"})]
            assert await valkey.script_load("return 1") == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
            async with valkey.pipeline(transaction=True) as pipeline:
                pipeline.hmget("rag:h", "a", "none")
                pipeline.zscore("rag:z", "x")
                pipeline.xrevrange("rag:s", count=1)
                assert await pipeline.execute() == [[b"1", None], 1.5, [(b"1-0", {b"data": b"1"})]]

    run(scenario)


@pytest.mark.parametrize("transaction", [True, False])
def test_errors_among_the_replies_of_a_pipeline(valkey_url: str, transaction: bool) -> None:
    async def scenario() -> None:
        async with client(valkey_url) as valkey:
            pipeline = valkey.pipeline(transaction=transaction)
            pipeline.set("rag:text", "a")
            pipeline.llen("rag:text")
            pipeline.get("rag:text")
            replies = await pipeline.execute(raise_on_error=False)
            assert (replies[0], replies[2]) == (True, b"a")
            assert isinstance(replies[1], ResponseError)
            pipeline.llen("rag:text")
            with pytest.raises(ResponseError, match="Command # 1 "):
                await pipeline.execute()

    run(scenario)


def test_a_transaction_with_an_unknown_command_does_nothing(valkey: Redis, valkey_url: str) -> None:
    async def scenario() -> None:
        async with client(valkey_url) as multiplexed:
            pipeline = multiplexed.pipeline(transaction=True)
            pipeline.set("rag:text", "a")
            pipeline.execute_command("GET")
            with pytest.raises(ResponseError, match="wrong number of arguments"):
                await pipeline.execute()

    run(scenario)
    assert not valkey.exists("rag:text")


@asynccontextmanager
async def loading_server() -> AsyncIterator[str]:
    """Run a server that is loading its file, as a Valkey that was started again; yield its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader(notEnoughData=None)
        while data := await reader.read(65_536):
            commands.feed(data)
            while (command := commands.gets()) is not None:
                reply = {b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"CLIENT": b"+OK\r\n"}.get(command[0])
                writer.write(reply or b"-LOADING Valkey is loading the dataset in memory\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("transaction", [True, False])
def test_a_server_that_loads_its_file_is_away(transaction: bool) -> None:
    async def scenario() -> None:
        async with loading_server() as url, client(url) as valkey:
            for raise_on_error in (True, False):
                pipeline = valkey.pipeline(transaction=transaction)
                pipeline.get("rag:a")
                with pytest.raises(BusyLoadingError):
                    await pipeline.execute(raise_on_error=raise_on_error)

    run(scenario)


def test_what_needs_a_connection_of_its_own_gets_one(valkey: Redis, valkey_server: Any) -> None:
    async def scenario() -> None:
        async with client(valkey_server.connection_url) as multiplexed:
            popped = asyncio.ensure_future(cast("Awaitable[Any]", multiplexed.blpop(["rag:list"], timeout=10)))
            async with multiplexed.pubsub() as channel:
                await channel.subscribe("rag:channel")
                await multiplexed.rpush("rag:list", "a")
                assert await popped == (b"rag:list", b"a")
            async with multiplexed.pipeline(transaction=True) as pipeline:
                await pipeline.watch("rag:watched")
                pipeline.multi()  # type: ignore[no-untyped-call]
                pipeline.get("rag:watched")
                await multiplexed.set("rag:watched", "changed")
                with pytest.raises(WatchError):
                    await pipeline.execute()

    run(scenario)
    assert valkey.get("rag:watched") == b"changed"


def test_the_reply_of_a_caller_that_is_gone_is_nobody_elses(valkey_url: str) -> None:
    async def scenario() -> None:
        async with client(valkey_url) as valkey:
            await valkey.set("rag:a", "a")
            await valkey.set("rag:b", "b")
            for yields in range(4):  # before it is sent, and after
                gone = asyncio.ensure_future(valkey.get("rag:a"))
                for _ in range(yields):
                    await asyncio.sleep(0)
                gone.cancel()
                assert await valkey.get("rag:b") == b"b"

    run(scenario)


def test_calls_on_a_connection_that_breaks_are_sent_again_once(valkey_url: str) -> None:
    async def scenario() -> None:
        async with proxy(valkey_url) as (between, url), client(url) as valkey:
            await valkey.ping()
            between.mute = True
            calls = [asyncio.ensure_future(valkey.incr("rag:n")) for _ in range(3)]
            await between.until_written(b"INCR")
            between.mute = False
            between.cut()
            assert max(await asyncio.gather(*calls)) in {3, 6}  # 6: only the replies of the first three were lost
            assert between.connections == 2

    run(scenario)


def test_a_silent_server_fails_the_calls_in_time_and_is_used_again_when_it_speaks(valkey_url: str) -> None:
    async def scenario() -> None:
        async with proxy(valkey_url) as (between, url), client(url, call_seconds=0.6, silence_seconds=0.3) as valkey:
            await valkey.ping()
            between.deaf = True
            started = time.monotonic()
            results = await asyncio.gather(*(valkey.get("rag:a") for _ in range(50)), return_exceptions=True)
            assert all(isinstance(result, ValkeyTimeoutError) for result in results)
            assert time.monotonic() - started < 5
            between.deaf = False
            while True:
                with suppress(RedisError):
                    assert await valkey.ping()
                    break

    run(scenario)


def test_while_calls_wait_for_a_silent_server_the_next_is_refused_at_once(valkey_url: str) -> None:
    async def scenario() -> None:
        async with proxy(valkey_url) as (between, url), client(url, call_seconds=6, silence_seconds=0.3) as valkey:
            await valkey.ping()
            between.deaf = True
            calls = [asyncio.ensure_future(valkey.get("rag:a"))]
            while not any(call.done() for call in calls):
                calls.append(asyncio.ensure_future(valkey.get("rag:a")))
                await asyncio.sleep(0.02)
            assert not calls[0].done()
            assert isinstance(calls[-1].exception(), ValkeyTimeoutError)
            between.deaf = False
            between.cut()
            assert await calls[0] is None  # sent again
            assert await valkey.ping()

    run(scenario)


def test_the_time_that_the_loop_is_busy_with_itself_does_not_count(valkey_url: str) -> None:
    async def scenario() -> None:
        async with client(valkey_url, call_seconds=0.5, silence_seconds=0.3) as valkey:
            await valkey.ping()
            for _ in range(3):
                call = asyncio.ensure_future(valkey.ping())
                for _ in range(3):
                    await asyncio.sleep(0)
                time.sleep(1.0)  # noqa: ASYNC251  the loop is busy
                assert await call

    # uvloop looks at timers before it reads, as the API's loop does.
    run(scenario, pytest.importorskip("uvloop").new_event_loop)


def test_nobody_at_the_address() -> None:
    async def scenario() -> None:
        async with client("redis://127.0.0.1:9") as valkey:
            results = await asyncio.gather(*(valkey.ping() for _ in range(5)), return_exceptions=True)
            assert [type(result) for result in results] == [ValkeyConnectionError] * 5
            assert len({id(result) for result in results}) == 5

    run(scenario)


def test_too_much_that_waits_is_refused_at_once(valkey_url: str) -> None:
    async def scenario() -> None:
        async with client(valkey_url) as opened:
            valkey = MultiplexedRedis(connection_pool=opened.connection_pool, max_waiting_bytes=1_000)
            calls = [valkey.set(f"rag:{n}", "x" * 300) for n in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert results[:2] == [True, True]
            assert all(isinstance(result, ValkeyConnectionError) for result in results[3:])
            assert await valkey.set("rag:again", "x" * 300)
            await valkey.aclose()

    run(scenario)


def test_large_values_pass(valkey_url: str) -> None:
    async def scenario() -> None:
        async with client(valkey_url) as valkey:
            text = b"x" * 5_000_000
            await asyncio.gather(*(valkey.set(f"rag:{n}", text) for n in range(4)))
            assert await asyncio.gather(*(valkey.get(f"rag:{n}") for n in range(4))) == [text] * 4

    run(scenario)


def test_calls_that_wait_end_when_the_client_is_closed(valkey_url: str) -> None:
    async def scenario() -> None:
        async with proxy(valkey_url) as (between, url), client(url) as valkey:
            await valkey.ping()
            between.mute = True
            call = asyncio.ensure_future(valkey.ping())
            await asyncio.sleep(0)
            await valkey.aclose()
            with pytest.raises(ValkeyConnectionError):
                await call

    run(scenario)
