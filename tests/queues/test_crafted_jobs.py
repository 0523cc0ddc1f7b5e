"""Records that an attacker writes into Valkey: nothing of them is executed, and every process goes on.

Each case is the record of a job, or what stands beside it. All of them would make a file, the canary, if they were
believed.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from rq.exceptions import DeserializationError
from rq.job import Job
from rq.registry import FailedJobRegistry

from client import rq_client
from client.rq.records import ALLOWED_FUNCTIONS, FUNCTIONS, read_call
from client.rq.serializer import MAX_DEPTH, MAX_VALUES, NotPlainData, PlainSerializer
from client.rq.transitions import JobOutcome, JobTransitions, encode_result
from queues.ragworker.worker import RagWorker
from settings import Settings
from tests.support import jobs
from tests.support.jobs import working
from tests.support.processes import ROOT, wait_until

QUEUE = "rag_queries"
CANARY = Path("crafted-canary")  # in the folder that each test makes and runs in
TOUCH = f"touch {CANARY}"
WRITE = f"open({str(CANARY)!r}, 'w')"
# 440 kB that become 100 MB.
BOMB = zlib.compress(bytes(100_000_000), 1)
Fields = Mapping[str, Any]


class Evil:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class EvilState:
    """Has its state set, by BUILD, when it is unpickled."""

    def __setstate__(self, state: object) -> None:
        CANARY.touch()


def evil(protocol: int = 5) -> bytes:
    return pickle.dumps(Evil(os.system, TOUCH), protocol)


def call(name: object, *arguments: object, instance: object = None, **keywords: object) -> dict[str, bytes]:
    return {"data": zlib.compress(pickle.dumps((name, instance, arguments, keywords)))}


def raw(data: bytes) -> dict[str, bytes]:
    return {"data": zlib.compress(data)}


def deep(levels: int) -> bytes:
    return b"]" * levels + b"a" * (levels - 1) + b"."


def memo_bomb() -> bytes:
    """Write 2**40 values in 400 bytes: lists of two times the list before."""
    twice = b"".join(b"](h" + bytes([n]) + b"h" + bytes([n]) + b"e\x94" for n in range(40))
    return b"\x80\x04]\x94" + twice + b"."


def exception(text: bytes) -> str:
    return base64.b64encode(text).decode()


CALLS: dict[str, Fields] = {
    "os.system": call("os.system", TOUCH),
    "posix.system": call("posix.system", TOUCH),
    "subprocess.Popen": call("subprocess.Popen", ["touch", str(CANARY)]),
    "subprocess.getoutput": call("subprocess.getoutput", TOUCH),
    "builtins.eval": call("builtins.eval", WRITE),
    "builtins.exec": call("builtins.exec", WRITE),
    "a bare eval": call("eval", WRITE),
    "pathlib.Path.touch, unbound": call("pathlib.Path.touch", str(CANARY)),
    "a method of an instance": call("touch", instance=str(CANARY)),
    "the builtins of our module": call("queues.worker.__builtins__", "eval", WRITE),
    "a function our module imported": call("queues.worker.connect", "redis://127.0.0.1:1"),
    "a private function of our module": call("queues.worker._job_id"),
    "our function, by its globals": call("queues.worker.process_query.__globals__"),
    "our function with blanks": call(" queues.worker.process_query "),
    "a module in the folder": call("crafted_module.run"),
    "a package that runs when imported": call("crafted_module.__name__"),
    "a path instead of a name": call("../crafted_module.run"),
    "an empty name": call(""),
    "a list as a name": call(["queues.worker.process_query"]),
    "importlib.import_module": call("importlib.import_module", "crafted_module"),
    "pickle.loads": call("pickle.loads", evil()),
    "rq.utils.import_attribute": call("rq.utils.import_attribute", "crafted_module.run"),
}
PICKLES: dict[str, Fields] = {
    "REDUCE, protocol 0": raw(evil(0)),
    "REDUCE, protocol 2": raw(evil(2)),
    "STACK_GLOBAL, protocol 5": raw(evil(5)),
    "GLOBAL by hand": raw(b"cos\nsystem\n(S'" + TOUCH.encode() + b"'\ntR."),
    "INST": raw(b"(S'" + TOUCH.encode() + b"'\nios\nsystem\n."),
    "OBJ": raw(b"(cos\nsystem\nS'" + TOUCH.encode() + b"'\no."),
    "NEWOBJ": raw(pickle.dumps(Path(CANARY), 4)),
    "BUILD": raw(b"\x80\x02ctests.integration.test_crafted_jobs\nEvilState\n)\x81}X\x01\x00\x00\x00aK\x01sb."),
    "EXT1": raw(b"\x80\x02\x82\x01)R."),
    "EXT4": raw(b"\x80\x02\x84\x01\x00\x00\x00)R."),
    "PERSID": raw(b"Pcrafted\n."),
    "BINPERSID": raw(b"\x80\x02X\x01\x00\x00\x00aQ."),
    "NEXT_BUFFER": raw(b"\x80\x05\x97."),
    "a call in the arguments": raw(
        b"\x80\x04(\x8c\x1bqueues.worker.process_queryN(cos\nsystem\n(S'" + TOUCH.encode() + b"'\ntRt}t."
    ),
    "not compressed": {"data": evil()},
    "a zlib bomb": {"data": BOMB},
    "a zlib bomb that is a pickle": {"data": zlib.compress(pickle.dumps("x" * 100_000_000), 1)},
    "100 MB": {"data": pickle.dumps(b"x" * 100_000_000)},
    "a hundred thousand levels": raw(deep(100_000)),
    "a memo bomb": raw(memo_bomb()),
    "room for 2 billion": raw(b"\x80\x02Nr\xff\xff\xff\x7f."),
    "a string of 8 EB": raw(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x."),
    "a bytearray of 8 GB": raw(b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"x."),
    "a list that holds itself": raw(b"\x80\x04]\x94h\x00a."),
    "a number of a million digits": raw(b"\x80\x02\x8b" + struct.pack("<I", 400_000) + b"\x7f" * 400_000 + b"."),
    "unfinished": raw(b"\x80\x04]\x94("),
    "JSON": {"data": json.dumps([FUNCTIONS["chat"], None, [], {}])},
    "a JSON call of os.system": {"data": zlib.compress(json.dumps(["os.system", None, [TOUCH], {}]).encode())},
}
GOOD = call(FUNCTIONS["chat"], {"query": "why?"})
FIELDS: dict[str, Fields] = {
    "a callback on success": {**GOOD, "success_callback_name": "crafted_module.run"},
    "a callback on failure": {**GOOD, "failure_callback_name": "os.abort", "failure_callback_timeout": 1},
    "a callback when stopped": {**GOOD, "stopped_callback_name": "builtins.exec"},
    "evil notes": {**GOOD, "meta": evil()},
    "a memo bomb as notes": {**GOOD, "meta": memo_bomb()},
    "an absurd timeout": {**GOOD, "timeout": "1e999"},
    "a timeout of a billion digits": {**GOOD, "timeout": "9" * 10_000},
    "a time in the year 99999": {**GOOD, "created_at": "99999-01-01T00:00:00Z"},
    "an invalid status": {**GOOD, "status": "os.system"},
}
# Runs as any job does, whatever these say: nobody reads them.
IGNORED: dict[str, Fields] = {
    "an evil result": {"result": evil()},
    "evil exception text": {"exc_info": evil()},
    "a zlib bomb as exception text": {"exc_info": BOMB},
    "dependencies that are not ids": {"dependency_ids": evil(), "dependency_id": b"\xff\xfe"},
    "another queue": {"origin": "rag_documents"},
    "a queue with a colon": {"origin": "a:b:*"},
    "another worker": {"worker_name": "../../etc/passwd"},
    "retries without end": {"retries_left": "9" * 50, "retry_intervals": "[0]", "number_of_retries": "-1"},
    "repeats without end": {"repeats_left": "9" * 50, "repeat_intervals": '["x"]'},
    "a group": {"group_id": "g:*"},
    "an absurd time to live": {"ttl": "-1e9", "result_ttl": "soon", "failure_ttl": ""},
    "RQ's webhooks": {"webhooks": json.dumps([{"url": "http://127.0.0.1:1/", "events": ["finished"]}])},
    "an owner that is a pattern": {"owner": "*[a-z]\n\x00", "priority": "high"},
    "deaths that are not a number": {"deaths": "x", "attempts": "x"},
}
RUN: dict[str, Fields] = {**CALLS, **PICKLES, **FIELDS}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in a folder with a module that must not be imported, and check the canary at the end."""
    (tmp_path / "crafted_module.py").write_text(f"{WRITE}\ndef run(*arguments): {WRITE}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    assert not CANARY.exists()
    assert "crafted_module" not in sys.modules


def write(valkey: Redis, fields: Fields, *, queue: str = QUEUE, push: bool = True, **more: str) -> str:
    """Write the record of a job, and put the job on its list."""
    job_id = str(uuid.uuid4())
    known: Fields = {"status": "queued", "origin": queue, "created_at": "2026-01-01T00:00:00.000000Z"}
    mapping: dict[Any, Any] = {**known, **fields, **more}
    valkey.hset(f"rq:job:{job_id}", mapping=mapping)
    if push:
        valkey.rpush(f"rq:queue:{queue}", job_id)
    return job_id


def good_job(valkey: Redis) -> str:
    """Write a job that succeeds without documents or a model: a superseded delivery."""
    return write(valkey, call(FUNCTIONS["webhook"], {"delivery_id": "gone", "seq": 1}))


def status(valkey: Redis, job_id: str) -> str:
    found = valkey.hget(f"rq:job:{job_id}", "status")
    return found.decode() if isinstance(found, bytes) else ""


def test_there_are_enough_cases() -> None:
    assert len(RUN) + len(IGNORED) + len(RESULTS) >= 60
    assert {"crafted_module.run", "os.system"}.isdisjoint(ALLOWED_FUNCTIONS)


def test_stock_rq_executes_the_cases() -> None:
    """With RQ's default serializer."""
    job = Job("1", connection=Redis())
    job.data = zlib.decompress(RUN["REDUCE, protocol 2"]["data"])
    with pytest.raises(DeserializationError):  # the data is not a call, but RQ has run the pickle by then
        job._deserialize_data()  # type: ignore[no-untyped-call]
    assert CANARY.exists()
    CANARY.unlink()
    job.data = zlib.decompress(RUN["subprocess.Popen"]["data"])
    assert job.func is subprocess.Popen


def test_a_worker_quarantines_crafted_jobs_and_goes_on(valkey: Redis, settings: Settings) -> None:
    crafted = {name: write(valkey, fields) for name, fields in RUN.items()}
    good = good_job(valkey)
    with working(settings, kind=RagWorker):
        wait_until(lambda: status(valkey, good) == "finished", seconds=60)
        wait_until(lambda: not valkey.zcard(f"rq:wip:{QUEUE}"))
        assert {name: status(valkey, job_id) for name, job_id in crafted.items()} == dict.fromkeys(crafted, "failed")
        after = good_job(valkey)
        wait_until(lambda: status(valkey, after) == "finished")
    dead = set(FailedJobRegistry(QUEUE, connection=valkey).get_job_ids())
    assert dead == set(crafted.values())
    assert valkey.llen(f"rq:queue:{QUEUE}") == 0


def test_fields_that_nobody_reads_change_nothing(valkey: Redis, settings: Settings) -> None:
    good = call(FUNCTIONS["webhook"], {"delivery_id": "gone", "seq": 1})
    crafted = {name: write(valkey, {**good, **fields}) for name, fields in IGNORED.items()}
    with working(settings, kind=RagWorker):
        wait_until(lambda: not valkey.llen(f"rq:queue:{QUEUE}") and not valkey.zcard(f"rq:wip:{QUEUE}"))
    assert {name: status(valkey, job_id) for name, job_id in crafted.items()} == dict.fromkeys(crafted, "finished")


def test_registries_are_maintained_without_trusting_their_jobs(valkey: Redis, settings: Settings) -> None:
    """Abandoned, due and dependent jobs: RQ would unpickle them and run their callbacks."""
    callback: Fields = {**GOOD, "failure_callback_name": "crafted_module.run", "stopped_callback_name": "os.abort"}
    abandoned = write(valkey, {**callback, "status": "started", "deaths": "2"}, push=False)
    valkey.zadd(f"rq:wip:{QUEUE}", {f"{abandoned}:gone": 1, "nonsense": 1, "a:b:c": 1})
    due = write(valkey, {**RUN["os.system"], "status": "scheduled"}, push=False)
    valkey.zadd(f"rq:scheduled:{QUEUE}", {due: 1, "gone": 1})
    valkey.set("rq:job:text", "text")
    valkey.zadd(f"rq:deferred:{QUEUE}", {"text": 1})
    valkey.zadd(f"rq:canceled:{QUEUE}", {abandoned: 1})
    valkey.sadd(f"rq:workers:{QUEUE}", "rq:worker:gone", b"\xff")
    valkey.sadd("rq:groups", "rq:group:g")
    with working(settings):  # which gives up on the dead sooner
        wait_until(lambda: status(valkey, abandoned) == "failed")
        wait_until(lambda: status(valkey, due) == "failed")
        good = jobs.enqueue(valkey, "nothing")
        assert jobs.ended(good) == ["finished"]


def test_dependents_of_a_job_are_released_without_being_unpickled(valkey: Redis, settings: Settings) -> None:
    parent = good_job(valkey)
    bomb: Fields = {**GOOD, "exc_info": BOMB, "result": evil(), "meta": evil()}
    names = {name: write(valkey, {**fields, "status": "deferred"}, push=False) for name, fields in RUN.items()}
    names["bomb"] = write(valkey, {**bomb, "status": "deferred"}, push=False)
    valkey.sadd(Job.dependents_key_for(parent), *names.values(), "gone", b"\xff", "text")
    valkey.set("rq:job:text", "text")
    transitions = JobTransitions(valkey, "one")
    (taken,) = transitions.take(QUEUE, ["e"]).jobs
    assert taken.execution.job_id == parent
    outcome = JobOutcome("finished", encode_result(ANSWER), 60)
    tracemalloc.start()
    assert transitions.finish_call(taken.execution, outcome).run(valkey) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert valkey.llen(f"rq:queue:{QUEUE}") == len(names)
    with working(settings, kind=RagWorker):
        wait_until(lambda: not valkey.llen(f"rq:queue:{QUEUE}") and not valkey.zcard(f"rq:wip:{QUEUE}"), seconds=60)
    assert status(valkey, names["os.system"]) == "failed"


def returned(value: bytes) -> Fields:
    return {"type": "1", "return_value": base64.b64encode(value)}


ANSWER = {"text": "yes", "sources": [], "answered": True}
# The last entry of a job's results, and the status of the job.
RESULTS: dict[str, tuple[str, Fields]] = {
    "an evil result": ("finished", returned(evil())),
    "an evil result, protocol 0": ("finished", returned(evil(0))),
    "a result that is not an answer": ("finished", returned(pickle.dumps({"os.system": TOUCH}))),
    "a result that is a list": ("finished", returned(pickle.dumps([1]))),
    "a result that is a class": ("finished", returned(pickle.dumps(int))),
    "a memo bomb": ("finished", returned(memo_bomb())),
    "a memo bomb in an answer": (
        "finished",
        returned(b"\x80\x04}(\x8c\x04textX\x01\x00\x00\x00a\x8c\x07sources" + memo_bomb()[2:-1] + b"u."),
    ),
    "a deep result": ("finished", returned(deep(50_000))),
    "20 MB": ("finished", returned(pickle.dumps({"text": "x" * 20_000_000}))),
    "a number of a million digits": ("finished", returned(pickle.dumps({"text": 1 << 3_000_000}))),
    "room for 2 billion": ("finished", returned(b"\x80\x02Nr\xff\xff\xff\x7f.")),
    "a surrogate in an answer": ("finished", returned(pickle.dumps(ANSWER | {"text": "\ud800"}))),
    "no base64": ("finished", {"type": "1", "return_value": "%%%"}),
    "no result": ("finished", {"type": "1"}),
    "a lone surrogate": ("finished", returned(b"\x80\x04}\x8c\x04textX\x03\x00\x00\x00\xed\xa0\x80s.")),
    "NaN": ("finished", returned(pickle.dumps(ANSWER | {"times": {"queue": float("nan")}}))),
    "a zlib bomb as exception": (
        "failed",
        {"type": "2", "exc_string": exception(BOMB)},
    ),
    "an evil exception": ("failed", {"type": "2", "exc_string": exception(evil())}),
    "an exception that is not compressed": ("failed", {"type": "2", "exc_string": exception(b"x")}),
}


def write_result(valkey: Redis, how: str, entry: Fields) -> str:
    job_id = write(valkey, {**GOOD, "status": how}, push=False, ended_at="2026-01-01T00:00:01Z")
    stored: dict[Any, Any] = dict(entry)
    valkey.xadd(f"rq:results:{job_id}", stored)
    return job_id


def call_every_route(api: httpx.Client, job_id: str) -> dict[str, httpx.Response]:
    """Call every route that shows a job, and cancel the job."""
    calls = {
        "status": f"/job-status/{job_id}",
        "status by parameter": f"/job-status?job_id={job_id}",
        "result": f"/result/{job_id}",
        "jobs": "/jobs?limit=200",
        "batch": "/batches/crafted",
        "lines": "/batches/crafted/results",
    }
    answers = {name: _asked(lambda path=path: api.get(path)) for name, path in calls.items()}  # type: ignore[misc]
    return answers | {"delete": _asked(lambda: api.delete(f"/jobs/{job_id}"))}


def _asked(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Return an answer; ask again, as a client does, while a busy API refuses: a record of 100 MB keeps it busy."""
    answers: list[httpx.Response] = []

    def is_answered() -> bool:
        answers.append(ask())
        return answers[-1].status_code != 503 or answers[-1].json()["title"] != "Server busy"

    wait_until(is_answered, what="the API to answer")
    return answers[-1]


def assert_harmless(name: str, answers: dict[str, httpx.Response]) -> None:
    wrong = {what: answer.text[:300] for what, answer in answers.items() if answer.status_code >= 500}
    assert not wrong, (name, wrong)
    assert all(TOUCH not in answer.text for answer in answers.values()), name


def list_jobs(valkey: Redis, job_ids: list[str]) -> None:
    """Put jobs into the list of their owner and into a batch, where the API reads them."""
    valkey.zadd("rag:jobs:local", dict.fromkeys(job_ids, 1000000000000.0))
    valkey.delete("rag:batch:crafted")
    valkey.rpush("rag:batch:crafted", "local", *job_ids)


def events_of(api: httpx.Client, job_id: str) -> str:
    with api.stream("GET", f"/jobs/{job_id}/events") as events:
        assert events.status_code in {200, 404}
        return "".join(events.iter_text())


def test_the_api_answers_for_crafted_jobs(api: httpx.Client, valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq_client, "STOP_SECONDS", 0.0)  # no worker will stop them
    for name, crafted in {**RUN, **IGNORED}.items():
        for how in ("queued",) if name == "100 MB" else ("queued", "started", "finished", "failed"):
            job_id = write(valkey, {**GOOD, "status": how, **crafted})
            list_jobs(valkey, [job_id])
            answers = call_every_route(api, job_id)
            assert_harmless(f"{name}, {how}", answers)
            assert answers["jobs"].status_code == answers["batch"].status_code == 200
        valkey.hset(f"rq:job:{job_id}", "status", "failed")
        assert "event: finished" not in events_of(api, job_id), name
        valkey.flushall()


def test_the_api_answers_for_crafted_results(api: httpx.Client, valkey: Redis) -> None:
    for name, (how, entry) in RESULTS.items():
        job_id = write_result(valkey, how, entry)
        list_jobs(valkey, [job_id])
        answers = call_every_route(api, job_id)
        assert_harmless(name, answers)
        assert answers["result"].status_code == 200
        assert answers["result"].json()["status"] == ("completed" if name == "NaN" else "failed"), name
        assert "event: " in events_of(api, job_id), name
        valkey.flushall()


@pytest.mark.parametrize("value", [{"status": "delivered"}, {"status": TOUCH}, {"status": [TOUCH]}, {}], ids=str)
def test_the_api_answers_for_the_jobs_of_webhooks(value: dict[str, object], api: httpx.Client, valkey: Redis) -> None:
    """A job of an attempt at a webhook returns the delivery's status, or whatever an attacker has written."""
    job_id = write_result(valkey, "finished", returned(pickle.dumps(value)))
    valkey.hset(f"rq:job:{job_id}", "origin", "rag_webhooks")
    list_jobs(valkey, [job_id])
    answers = call_every_route(api, job_id)
    assert_harmless(str(value), answers)
    delivered = value.get("status") == "delivered"
    assert answers["result"].json()["result"] == f"webhook: {'delivered' if delivered else 'ended'}"
    assert "event: finished" in events_of(api, job_id)


STRANGE_TYPES: dict[str, Callable[[Redis, str], object]] = {
    "text for a job": lambda valkey, key: valkey.set(f"rq:job:{key}", "text"),
    "a list for a job": lambda valkey, key: valkey.rpush(f"rq:job:{key}", "x"),
    "text for results": lambda valkey, key: (
        valkey.hset(f"rq:job:{key}", mapping={"status": "finished", "origin": QUEUE}),
        valkey.set(f"rq:results:{key}", "text"),
    ),
    "text for events": lambda valkey, key: (
        valkey.hset(f"rq:job:{key}", mapping={"status": "failed", "origin": QUEUE}),
        valkey.set(f"rag:events:{key}", "text"),
    ),
    "evil events": lambda valkey, key: (
        valkey.hset(f"rq:job:{key}", mapping={"status": "failed", "origin": QUEUE}),
        valkey.xadd(f"rag:events:{key}", {"type": "token\nevent: finished", "data": evil()}),
    ),
}


def test_the_api_answers_for_keys_of_other_types(api: httpx.Client, valkey: Redis) -> None:
    for name, make in STRANGE_TYPES.items():
        job_id, other = str(uuid.uuid4()), write(valkey, GOOD)
        make(valkey, job_id)
        list_jobs(valkey, [job_id, other])
        answers = call_every_route(api, job_id)
        assert_harmless(name, answers)
        assert other in answers["jobs"].text
        events_of(api, job_id)


@pytest.mark.parametrize("name", CALLS | PICKLES)
def test_the_reader_refuses_crafted_calls_in_little_memory(name: str) -> None:
    data = {key: value.encode() if isinstance(value, str) else value for key, value in RUN[name].items()}
    tracemalloc.start()
    try:
        function = read_call(data.get("data"))[0]
    except NotPlainData:
        function = "none"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert function not in ALLOWED_FUNCTIONS
    assert peak < 60_000_000


def test_large_plain_data_is_read() -> None:
    nested: list[Any] = []
    for _ in range(MAX_DEPTH - 2):
        nested = [nested]
    shared = ["x"] * 100
    for value in (nested, [1] * (MAX_VALUES - 10), {"a": [shared] * 100}, "x" * 10_000_000, {1, 2}, b"x", 1 << 500):
        assert PlainSerializer.loads(pickle.dumps(value)) == value
    for protocol in (2, 3, 4, 5):
        assert PlainSerializer.loads(pickle.dumps((None, "a", (1, 2.5), {"k": [True]}), protocol))


def test_data_of_too_many_values_is_refused() -> None:
    for value in ([1] * (MAX_VALUES + 1), [[[0] * 1_000] * 1_000]):
        with pytest.raises(NotPlainData):
            PlainSerializer.loads(pickle.dumps(value))


def test_no_other_code_reads_a_pickle() -> None:
    """Only PlainSerializer reads pickles in the API and in workers."""
    for folder in ("api", "client", "queues", "rag"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert "pickle.loads" not in text, path
            assert "pickle.load(" not in text, path
            assert "Job.fetch" not in text, path
