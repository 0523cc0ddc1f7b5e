"""RagWorker with a real Valkey: many jobs at once, each ended once, with RQ's records right at every step."""

from __future__ import annotations

import socket
import time
import uuid
from pathlib import Path

import httpx
import pytest
from redis import Redis
from rq import Queue
from rq.command import PUBSUB_CHANNEL_TEMPLATE, send_shutdown_command, send_stop_job_command
from rq.job import Job
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.suspension import resume, suspend

from client.rq.serializer import PlainSerializer
from client.rq.transitions import SUSPECT_LOSSES
from client.valkey import keys
from queues.ragworker import drain
from queues.ragworker.worker import SAME_SIGNAL_SECONDS, RagWorker, queue_limits
from settings import Settings
from tests.conftest import MakeSettings
from tests.support import jobs
from tests.support.jobs import ended, enqueue, status, working
from tests.support.processes import RQ, run, running, wait_until


def test_a_worker_runs_as_many_jobs_at_once_as_it_has_slots(
    valkey: Redis, valkey_url: str, make_settings: MakeSettings
) -> None:
    jobs.expect(40)
    with working(make_settings(valkey_url=valkey_url, worker_concurrency=40)):
        met = [enqueue(valkey, "meet", place) for place in range(40)]
        assert ended(*met) == ["finished"] * 40
    assert [job.latest_result().return_value for job in met] == [True] * 40  # type: ignore[union-attr]


def test_a_worker_takes_no_more_jobs_than_it_has_slots(
    valkey: Redis, valkey_url: str, make_settings: MakeSettings
) -> None:
    with working(make_settings(valkey_url=valkey_url, worker_concurrency=3)):
        queued = [enqueue(valkey, "wait") for _ in range(8)]
        wait_until(lambda: len(started(valkey)) == 3)
        assert sorted(map(status, queued)) == ["queued"] * 5 + ["started"] * 3
        assert valkey.llen("rq:queue:rag_queries") == 5
        jobs.release()
        assert ended(*queued) == ["finished"] * 8
    assert not started(valkey)


def test_registries_and_records_match_those_of_rq(valkey: Redis, settings: Settings) -> None:
    with working(settings) as worker:
        job = enqueue(valkey, "wait")
        wait_until(lambda: status(job) == "started")
        found = Job.fetch(job.id, connection=valkey, serializer=PlainSerializer)
        assert found.worker_name == worker.name
        assert found.started_at is not None
        assert [execution.worker_name for execution in found.get_executions()] == [worker.name]
        assert StartedJobRegistry("rag_queries", connection=valkey).get_job_ids() == [job.id]
        wait_until(lambda: valkey.hget(worker.key, "state") == b"busy", what="a heartbeat with the state busy")
        info = rq_info(settings)
        assert "1 executing" in info
        assert worker.name in info
        assert "busy" in info
        jobs.release()
        ended(job)
    found.refresh()  # type: ignore[no-untyped-call]
    assert found.return_value() == "released"
    assert found.ended_at is not None
    assert Queue("rag_queries", connection=valkey).finished_job_registry.get_job_ids() == [job.id]
    assert 0 < valkey.ttl(job.key) <= 600
    assert found.get_executions() == []
    assert not valkey.keys("rq:execution:*")
    result = Result.fetch_latest(found, serializer=PlainSerializer)
    assert result is not None
    assert result.execution_id
    assert "0 executing, 1 finished, 0 failed" in rq_info(settings)


def test_no_context_of_one_job_leaks_into_another(valkey: Redis, valkey_url: str, make_settings: MakeSettings) -> None:
    with working(make_settings(valkey_url=valkey_url, worker_concurrency=8)):
        asked = [enqueue(valkey, "who") for _ in range(64)]
        ended(*asked)
    assert [job.return_value() for job in asked] == [{"id": job.id, "found": "clean"} for job in asked]


def test_a_job_that_hangs_in_a_socket_ends_at_its_deadline(valkey: Redis, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, working(settings):
        port = server.getsockname()[1]  # nothing ever comes from there
        hanging = [enqueue(valkey, "hang_in_socket", port, job_timeout=1) for _ in range(3)]
        assert ended(*hanging) == ["failed"] * 3
        assert "JobTimeoutException" in str(hanging[0].latest_result().exc_string)  # type: ignore[union-attr]
        wait_until(lambda: jobs.returned.count(port) == 3, what="the return of the threads")
        assert ended(enqueue(valkey, "nothing")) == ["finished"]


def test_a_job_that_cannot_be_interrupted_fails_at_its_deadline_and_frees_its_slot(
    valkey: Redis, valkey_url: str, make_settings: MakeSettings
) -> None:
    with working(make_settings(valkey_url=valkey_url, worker_concurrency=1)):
        jobs.returned.clear()
        job = enqueue(valkey, "wait", job_timeout=1)
        after = enqueue(valkey, "nothing")
        assert ended(job, after) == ["failed", "finished"]
        assert jobs.RELEASE not in jobs.returned  # the job's thread is still in its function
        jobs.release()
        wait_until(lambda: jobs.RELEASE in jobs.returned)
    assert status(job) == "failed"
    assert Result.count(job) == 1


def test_stop_job_and_cancel_reach_running_jobs(valkey: Redis, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, working(settings) as worker:
        stopped, canceled, other = (enqueue(valkey, "hang_in_socket", server.getsockname()[1]) for _ in range(3))
        wait_until(lambda: len(started(valkey)) == 3)
        wait_until_listening(valkey, worker)
        send_stop_job_command(valkey, stopped.id, serializer=PlainSerializer)
        Job.fetch(canceled.id, connection=valkey, serializer=PlainSerializer).cancel()
        wait_until(lambda: status(stopped) == "stopped")
        assert status(canceled) == "canceled"
        wait_until(lambda: len(started(valkey)) == 1)
        assert status(other) == "started"
        send_stop_job_command(valkey, other.id, serializer=PlainSerializer)
        ended(other)
        assert status(canceled) == "canceled"
        assert Result.count(canceled) == 0
    assert stopped.id in FailedJobRegistry("rag_queries", connection=valkey).get_job_ids()


def test_a_failed_job_is_in_rqs_registry_and_can_be_requeued(valkey: Redis, settings: Settings) -> None:
    with working(settings):
        failing = [enqueue(valkey, "fail", "a word"), enqueue(valkey, "unplain"), enqueue(valkey, "leave")]
        assert ended(*failing) == ["failed"] * 3
        texts = [str(job.latest_result().exc_string) for job in failing]  # type: ignore[union-attr]
        assert "LookupError: a word" in texts[0]
        assert "NotPlainData" in texts[1]
        assert "SystemExit" in texts[2]
        registry = FailedJobRegistry(queue=Queue("rag_queries", connection=valkey))
        assert set(registry.get_job_ids()) == {job.id for job in failing}
        registry.requeue(failing[0].id)
        wait_until(lambda: Result.count(failing[0]) == 2)
        assert ended(enqueue(valkey, "nothing")) == ["finished"]


def test_the_first_signal_drains_and_the_second_hands_back(valkey: Redis, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, working(settings) as worker:
        drained = enqueue(valkey, "wait")
        held = [enqueue(valkey, "hang_in_socket", server.getsockname()[1]) for _ in range(2)]
        wait_until(lambda: len(started(valkey)) == 3)
        worker.request_stop(15, None)
        worker.request_stop(15, None)  # the same Ctrl-C, once more
        wait_until(lambda: worker._executor is not None and worker._executor._stopping.is_set())
        late = enqueue(valkey, "nothing")
        jobs.release()
        assert ended(drained) == ["finished"]
        assert [status(job) for job in held] == ["started"] * 2
        time.sleep(SAME_SIGNAL_SECONDS)
        worker.request_stop(15, None)
        wait_until(lambda: all(status(job) == "queued" for job in held))
        wait_until(lambda: not valkey.sismember("rq:workers", worker.key))
    assert status(late) == "queued"
    ids = Queue("rag_queries", connection=valkey).get_job_ids()
    assert sorted(ids[:2]) == sorted(job.id for job in held)  # at the front
    assert ids[2:] == [late.id]
    assert not started(valkey)


def test_the_shutdown_command_and_suspension_work(valkey: Redis, settings: Settings) -> None:
    suspend(valkey)
    with working(settings) as worker:
        job = enqueue(valkey, "nothing")
        time.sleep(0.3)  # enough for a worker to take a job, if it did
        assert status(job) == "queued"
        resume(valkey)
        assert ended(job) == ["finished"]
        wait_until_listening(valkey, worker)
        send_shutdown_command(valkey, worker.name)
        wait_until(lambda: valkey.hexists(worker.key, "death"))


def test_burst_and_max_jobs(valkey: Redis, settings: Settings) -> None:
    first = [enqueue(valkey, "nothing") for _ in range(5)]
    worker = jobs.Worker(["rag_queries"], connection=valkey, settings=settings)
    assert worker.work(burst=True, max_jobs=3)
    assert sorted(map(status, first)) == ["finished"] * 3 + ["queued"] * 2
    assert jobs.Worker(["rag_queries"], connection=valkey, settings=settings).work(burst=True)
    assert ended(*first) == ["finished"] * 5
    assert not jobs.Worker(["rag_queries"], connection=valkey, settings=settings).work(burst=True)


def test_scheduled_jobs_and_dependents_are_enqueued(valkey: Redis, settings: Settings) -> None:
    queue = Queue("rag_queries", connection=valkey, serializer=PlainSerializer)
    first = queue.enqueue("tests.support.jobs.nothing")
    second = queue.enqueue("tests.support.jobs.nothing", depends_on=first)
    assert status(second) == "deferred"
    with working(settings):
        assert ended(first, second) == ["finished"] * 2
        due = queue.enqueue_at(second.created_at, "tests.support.jobs.nothing")
        assert ended(due) == ["finished"]
    assert valkey.zcard("rq:scheduled:rag_queries") == 0


INVALID_RECORDS: dict[str, dict[str, str | bytes]] = {
    "no fields": {"status": "queued"},
    "bad status": {"status": "half-done"},
    "no data": {"data": b""},
    "garbage data": {"data": b"\x80\x05garbage"},
    "an evil pickle": {"data": b"cos\nsystem\n(S'touch /tmp/never'\ntR."},
    "a foreign function": {"data": PlainSerializer.dumps(("os.system", None, ("true",), {}))},
    "an unknown function of ours": {"data": PlainSerializer.dumps(("tests.support.jobs.status", None, (), {}))},
    "a number as function": {"data": PlainSerializer.dumps((7, None, (), {}))},
    "an instance": {"data": PlainSerializer.dumps(("tests.support.jobs.nothing", "it", (), {}))},
    "wrong arguments": {"data": PlainSerializer.dumps(("tests.support.jobs.nothing", None, 7, {}))},
    "too many arguments": {"data": PlainSerializer.dumps(("tests.support.jobs.nothing", None, (1, 2, 3), {}))},
    "a callback": {"success_callback_name": "os.getcwd"},
    "a bad timeout": {"timeout": "soon"},
    "a bad time": {"created_at": "yesterday"},
    "garbage notes": {"meta": b"\x80\x05garbage"},
    "evil notes": {"meta": b"cos\nsystem\n(S'touch /tmp/never'\ntR."},
    "a bad time to live": {"failure_ttl": "never"},
}


def test_invalid_records_are_quarantined_and_never_end_the_worker(
    valkey: Redis, settings: Settings, api: httpx.Client
) -> None:
    invalid = {}
    for kind, fields in INVALID_RECORDS.items():
        invalid[kind] = str(uuid.uuid4())
        job = enqueue(valkey, "nothing", job_id=invalid[kind])
        if kind == "no fields":
            valkey.delete(job.key)
        for name, value in fields.items():
            valkey.hset(job.key, name, value)
    good = enqueue(valkey, "nothing")
    strange: list[str | bytes] = ["gone", "not-a-hash", "with:colon", b"\xff\xfe", "twice"]
    valkey.set("rq:job:not-a-hash", "text")
    valkey.hset("rq:job:with:colon", "status", "queued")
    valkey.hset("rq:job:twice", mapping={"status": "finished"})
    valkey.lpush("rq:queue:rag_queries", *strange)
    with working(settings):
        assert ended(good) == ["finished"]
        fine = {"a bad time to live"}
        wait_until(lambda: not started(valkey))
        for kind, job_id in invalid.items():
            assert valkey.hget(f"rq:job:{job_id}", "status") == (b"finished" if kind in fine else b"failed"), kind
            answer = api.get(f"/job-status/{job_id}")
            assert answer.status_code in {200, 404}, answer.text
        failed = FailedJobRegistry("rag_queries", connection=valkey).get_job_ids()
        assert set(failed) == {job_id for kind, job_id in invalid.items() if kind not in fine}
    assert valkey.llen("rq:queue:rag_queries") == 0
    assert not Path("/tmp/never").exists()


def test_a_flood_on_one_queue_starves_no_other(valkey: Redis, valkey_url: str, make_settings: MakeSettings) -> None:
    queues = ("rag_queries", "rag_documents", "rag_webhooks")
    share = queue_limits(queues, 16)["rag_documents"]
    with working(make_settings(valkey_url=valkey_url, worker_concurrency=16), *queues):
        flood = [enqueue(valkey, "wait", queue="rag_documents") for _ in range(50)]
        wait_until(lambda: len(started(valkey, "rag_documents")) == share)
        questions = [enqueue(valkey, "nothing") for _ in range(50)]
        assert ended(*questions) == ["finished"] * 50
        assert len(started(valkey, "rag_documents")) == share
        waiting = [enqueue(valkey, "sleep", 0.3) for _ in range(60)]
        wait_until(lambda: len(started(valkey)) >= 10)
        delivery = enqueue(valkey, "nothing", queue="rag_webhooks")
        assert ended(delivery) == ["finished"]
        jobs.release()
        assert set(ended(*flood, *waiting)) == {"finished"}
    for job in [delivery, *waiting]:
        job.refresh()  # type: ignore[no-untyped-call]
    before = [job for job in waiting if job.ended_at < delivery.started_at]  # type: ignore[operator]
    assert len(before) < len(waiting) / 2


def test_a_job_that_has_to_run_alone_does_not_wait_until_the_other_queues_are_empty(
    valkey: Redis, valkey_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "DRAIN_SECONDS", 2.0)

    def enqueue_suspect() -> Job:
        suspend(valkey)
        suspect = enqueue(valkey, "nothing", queue="rag_documents")
        valkey.hset(suspect.key, "losses", SUSPECT_LOSSES)
        resume(valkey)
        return suspect

    with working(make_settings(valkey_url=valkey_url, worker_concurrency=4), "rag_queries", "rag_documents"):
        busy = [enqueue(valkey, "sleep", 0.1 + 0.05 * (n % 3)) for n in range(100)]
        wait_until(lambda: len(started(valkey)) == 4)
        assert ended(enqueue_suspect()) == ["finished"]
        assert valkey.llen("rq:queue:rag_queries") > 0
        # A job that does not end holds it up no longer than DRAIN_SECONDS.
        busy += [enqueue(valkey, "wait", at_front=True)]
        busy += [enqueue(valkey, "sleep", 0.1) for n in range(100)]
        assert ended(enqueue_suspect()) == ["finished"]
        assert valkey.llen("rq:queue:rag_queries") > 0
        assert not valkey.exists(keys.drain("rag_documents"))
        jobs.release()
        assert set(ended(*busy)) == {"finished"}


def test_a_heartbeat_file_that_cannot_be_written_is_named_and_stops_nothing_else(
    valkey: Redis, valkey_url: str, make_settings: MakeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "missing" / "heartbeat"
    with working(make_settings(valkey_url=valkey_url, heartbeat_file=file), "rag_queries"):
        wait_until(lambda: "HEARTBEAT_FILE failed" in caplog.text)
        assert f"HEARTBEAT_FILE {file}: No such file or directory" in caplog.text
        assert ended(enqueue(valkey, "nothing")) == ["finished"]
        file.parent.mkdir()
        wait_until(file.exists)
    assert "Valkey is away" not in caplog.text


def test_a_killed_workers_jobs_run_again_elsewhere(valkey: Redis, settings: Settings, tmp_path: Path) -> None:
    command = [RQ, "worker", "-w", "tests.support.jobs.Worker", "rag_queries", "--url", settings.queue_url]
    with running(command, tmp_path / "killed.log", DATA_DIR=str(settings.data_dir)) as killed:
        held = [enqueue(valkey, "count", settings.queue_url, f"rag:run-{n}", 1.0) for n in range(4)]
        wait_until(lambda: [valkey.get(f"rag:run-{n}:begun") for n in range(4)] == [b"1"] * 4)
        killed.kill()
    with working(settings):
        assert ended(*held) == ["finished"] * 4
    assert [job.return_value() for job in held] == [2] * 4
    assert not started(valkey)


def test_a_job_that_kills_its_workers_ends_among_the_dead_letters(
    valkey: Redis, settings: Settings, tmp_path: Path
) -> None:
    job = enqueue(valkey, "die")
    command = [RQ, "worker", "-w", "tests.support.jobs.Worker", "rag_queries", "--url", settings.queue_url]
    for attempt in range(3):
        with running(command, tmp_path / f"{attempt}.log", DATA_DIR=str(settings.data_dir)) as worker:
            assert worker.process.wait(20) == 9, worker.output
    with working(settings):
        assert ended(job) == ["failed"]
        assert "AbandonedJobError" in str(job.latest_result().exc_string)  # type: ignore[union-attr]
    assert FailedJobRegistry("rag_queries", connection=valkey).get_job_ids() == [job.id]


def test_a_job_that_a_stock_worker_took_but_never_started_is_requeued(valkey: Redis, settings: Settings) -> None:
    job = enqueue(valkey, "nothing")
    valkey.lmove("rq:queue:rag_queries", "rq:queue:rag_queries:intermediate", "LEFT", "RIGHT")
    with working(settings):
        assert ended(job) == ["finished"]
    assert valkey.llen("rq:queue:rag_queries:intermediate") == 0


def test_expired_jobs_leave_the_registries(valkey: Redis, settings: Settings) -> None:
    passed, kept = time.time() - 1, time.time() + 60
    canceled = enqueue(valkey, "nothing")
    canceled.cancel()  # RQ keeps it for ever
    valkey.zadd("rq:canceled:rag_queries", {f"expired-{n}": passed for n in range(2_500)} | {"waits": kept})
    for registry in ("finished", "failed"):
        valkey.zadd(f"rq:{registry}:rag_queries", {"expired": passed, "waits": kept})
    with working(settings):
        wait_until(lambda: valkey.zcard("rq:canceled:rag_queries") == 2)
        wait_until(lambda: [valkey.zcard(f"rq:{name}:rag_queries") for name in ("finished", "failed")] == [1, 1])
    assert set(valkey.zrange("rq:canceled:rag_queries", 0, -1)) == {b"waits", canceled.id.encode()}


def wait_until_listening(valkey: Redis, worker: RagWorker) -> None:
    """Wait until a worker has subscribed to its commands. RQ publishes a command once: before that, nobody hears it."""
    channel = PUBSUB_CHANNEL_TEMPLATE % worker.name
    wait_until(lambda: valkey.pubsub_numsub(channel)[0][1] == 1, what="the subscription of the worker")


def started(valkey: Redis, queue: str = "rag_queries") -> list[str]:
    return list(StartedJobRegistry(queue, connection=valkey).get_job_ids(cleanup=False))


def rq_info(settings: Settings) -> str:
    done = run([RQ, "info", "--url", settings.queue_url])
    assert done.returncode == 0, done.stderr
    return done.stdout
