"""Lua scripts: composed of files and constants, sent to a server once, and never half executed in a transaction."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.client import Pipeline

from client.rq_client import JobQueue
from client.valkey.scripts import Script, load
from tests.support import acl
from tests.support.processes import ROOT

COUNT = "redis.call('INCR', KEYS[1])\nreturn redis.call('GET', KEYS[1])"
# A question sends its record and its keys, 1,678 bytes. With its scripts it sent 15,047.
MAX_BYTES_A_QUESTION = 2_500


@pytest.fixture
def count(valkey: Redis) -> Script:
    valkey.script_flush()
    return Script("count", COUNT)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.lua").write_text(text)


def test_a_file_is_included_once(tmp_path: Path) -> None:
    write(tmp_path, a="-- include b.lua\n-- include c.lua\nA", b="-- include c.lua\nB", c="C")
    assert load(tmp_path / "a.lua").text.split() == ["C", "B", "A"]


def test_a_script_gets_the_constants_that_it_mentions(tmp_path: Path, valkey: Redis) -> None:
    write(tmp_path, a="return {JOB, LIMIT, NAMES[2], TEXT}")
    script = load(tmp_path / "a.lua", {"LIMIT": 7, "NAMES": ("x", "y"), "TEXT": "it's \\", "UNUSED": 1})
    assert "UNUSED" not in script.text
    assert script.call(valkey) == [b"rq:job:", 7, b"y", b"it's \\"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, a="-- include gone.lua")
    with pytest.raises(RuntimeError, match=r"gone\.lua cannot be read"):
        load(tmp_path / "a.lua")


def test_a_script_is_sent_to_a_server_that_does_not_have_it(count: Script, valkey: Redis) -> None:
    assert [count.call(valkey, ["rag:n"]), count.call(valkey, ["rag:n"])] == [b"1", b"2"]
    valkey.script_flush()
    assert count.call(valkey, ["rag:n"]) == b"3"


def test_a_transaction_without_its_script_runs_again_with_all_calls(count: Script, valkey: Redis) -> None:
    def fill(pipeline: Pipeline) -> None:
        pipeline.sadd("rag:members", "one")
        count.add_to(pipeline, ["rag:n"])
        count.add_to(pipeline, ["rag:n"])

    assert count.transaction(valkey, fill) == [0, b"1", b"2"], "the first run only added the member"
    assert count.transaction(valkey, fill) == [0, b"3", b"4"]
    valkey.script_flush()
    assert count.transaction(valkey, fill) == [0, b"5", b"6"]


def test_an_asynchronous_transaction_runs_again_too(count: Script, valkey_url: str, valkey: Redis) -> None:
    async def run() -> list[object]:
        async with AsyncRedis.from_url(valkey_url) as client:
            valkey.script_flush()
            first = await count.transaction_async(client, lambda pipeline: count.add_to(pipeline, ["rag:n"]))
            valkey.script_flush()
            return [*first, await count.call_async(client, ["rag:n"])]

    assert asyncio.run(run()) == [b"1", b"2"]


@pytest.mark.parametrize("many", [1, 3])
def test_a_server_that_lost_its_scripts_gets_job_and_outbox_entry(many: int, valkey_url: str, valkey: Redis) -> None:
    valkey.sadd("rag:webhook:endpoints:ann", "endpoint")

    async def submit() -> list[str]:
        queue = JobQueue(valkey_url, job_timeout_seconds=60, result_ttl_seconds=600)
        jobs = []
        for _ in range(2):
            valkey.script_flush()
            jobs += await queue.submit_many("chat", [{"query": "why?"}] * many, owner="ann")
        await queue.close()
        return [job.job_id for job in jobs]

    job_ids = asyncio.run(submit())
    queued = cast("list[bytes]", valkey.lrange("rq:queue:rag_queries", 0, -1))
    pending = cast("list[bytes]", valkey.zrange("rag:webhook:pending", 0, -1))
    assert [job_id.decode() for job_id in queued] == job_ids
    assert {job_id.decode() for job_id in pending} == set(job_ids)


def test_a_question_sends_no_script(valkey_url: str, valkey: Redis) -> None:
    async def submit(count: int) -> None:
        queue = JobQueue(valkey_url, job_timeout_seconds=60, result_ttl_seconds=600)
        await queue.submit("chat", {"query": "why?"})
        before = int(valkey.info("stats")["total_net_input_bytes"])
        for _ in range(count):
            await queue.submit("chat", {"query": "why?"})
        after = int(valkey.info("stats")["total_net_input_bytes"])
        await queue.close()
        assert (after - before) / count < MAX_BYTES_A_QUESTION

    asyncio.run(submit(20))


def test_the_user_of_the_deployment_may_call_scripts() -> None:
    assert {"evalsha", "eval", "script|load"} <= acl.allowed()


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/**/lua/*.lua")), ids=lambda path: path.stem)
def test_no_function_of_a_composed_script_is_defined_twice(path: Path) -> None:
    defined = re.findall(r"^local function (\w+)", load(path).text, re.MULTILINE)
    assert len(set(defined)) == len(defined)
