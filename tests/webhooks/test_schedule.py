"""Webhooks under a fake clock: days of retries, lost jobs and dead workers, with RQ's own scheduler and worker."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate, count
from typing import Any

import pytest
import standardwebhooks.webhooks
from redis import Redis
from redis.exceptions import ConnectionError as ValkeyConnectionError
from rq import SimpleWorker
from rq.scheduler import RQScheduler

from client.rq.outbox import Callback
from client.rq_client import JobQueue
from settings import Settings
from tests.support.webhook_receiver import Received
from webhooks.models import SCHEDULE_SECONDS, DeliveryStatus, Endpoint, EventType, utc_time
from webhooks.relay import LATE_SECONDS, LOST_SECONDS, UNSEEN_SECONDS, OutboxRelay
from webhooks.sender import Outcome, new_secret
from webhooks.store import WebhookStore, log_ttl_seconds
from webhooks.throttle import ReceiverThrottle

URL = "https://hooks.example.com/rag"
START = 1_800_000_000.0
ANSWER = {"text": "In 1887 [1].", "answered": True, "sources": []}


class Worker(SimpleWorker):
    """A stock worker that does not listen to commands: ending the listener would take a second each time."""

    def subscribe(self) -> None:
        pass

    def unsubscribe(self) -> None:
        pass


@dataclass
class World:
    """A clock, a scripted receiver, and the parts of a service, which are made new at each use."""

    valkey: Redis
    settings: Settings
    now: float = START
    respond: Callable[[str], Outcome] = lambda _url: Outcome(204, None, 0.01)
    received: list[tuple[float, str, Received]] = field(default_factory=list)

    def sender(self, url: str, body: bytes, headers: dict[str, str], **_: Any) -> Outcome:
        outcome = self.respond(url)
        if outcome.status is not None:
            self.received.append((self.now, url, Received(url, headers, body)))
        return outcome

    @property
    def store(self) -> WebhookStore:
        return WebhookStore(self.valkey, ttl_seconds=log_ttl_seconds(self.settings))

    @property
    def relay(self) -> OutboxRelay:
        return OutboxRelay(self.store, clock=lambda: self.now)

    def ask(self, *, owner: str = "local", url: str = "", metadata: dict[str, str] | None = None) -> str:
        """Put a question on the queue, as the API does."""

        async def submit() -> str:
            queue = JobQueue(self.settings.queue_url, job_timeout_seconds=60, result_ttl_seconds=86_400)
            try:
                callback = Callback(url=url, metadata=metadata or {})
                return (await queue.submit("chat", {"query": "Why?"}, owner=owner, callback=callback)).job_id
            finally:
                await queue.close()

        return asyncio.run(submit())

    def register(self, url: str = URL, *, owner: str = "local", events: tuple[EventType, ...] = ()) -> Endpoint:
        endpoint = Endpoint(
            endpoint_id=f"endpoint-{owner}-{len(self.store.endpoints(owner))}",
            owner=owner,
            url=url,
            secret=new_secret(),
            events=events,
            created_at=utc_time(self.now),
        )
        self.store.add_endpoint(endpoint)
        return endpoint

    def work(self, queue: str = "rag_webhooks") -> None:
        """Run the jobs of a queue with a stock worker."""
        Worker([queue], connection=self.valkey).work(burst=True)

    def finish(self) -> None:
        """Answer all questions, and let the sweep find the ended jobs."""
        self.work("rag_queries")
        self.relay.sweep()

    def due(self) -> float | None:
        """Return the time of the next job on RQ's schedule."""
        first = self.valkey.zrange("rq:scheduled:rag_webhooks", 0, 0, withscores=True)
        return float(first[0][1]) if first else None

    def tick(self) -> None:
        """Let RQ's scheduler do its work of each second, and a worker run the jobs that are due."""
        scheduler = RQScheduler(["rag_webhooks"], connection=self.valkey)
        scheduler.acquire_locks()  # type: ignore[no-untyped-call]
        scheduler.enqueue_scheduled_jobs()  # type: ignore[no-untyped-call]
        scheduler.release_locks()  # type: ignore[no-untyped-call]
        self.work()

    def run_until_quiet(self) -> None:
        """Run the clock from one scheduled time to the next until nothing is scheduled."""
        self.run_until(math.inf)

    def run_until(self, moment: float) -> None:
        """Run the clock to a moment, stopping where something is scheduled."""
        self.work()
        while (due := self.due()) is not None and due <= moment:
            self.now = max(self.now, due)
            self.tick()
        if moment < math.inf:
            self.now = moment

    def deliveries(self, job_id: str) -> list[Any]:
        return self.store.deliveries("job", job_id, owner="local", offset=0, limit=100)


@pytest.fixture
def world(valkey: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(valkey, settings)
    import queues.jobs.delivery
    import queues.worker

    def attempt(task: Any, connection: Redis, use: Settings, **origin: Any) -> str:
        return queues.jobs.delivery.attempt_delivery(task, connection, use, made.sender, **origin)

    monkeypatch.setattr("queues.worker.get_settings", lambda: settings)
    monkeypatch.setattr("queues.worker.attempt_delivery", attempt)
    monkeypatch.setattr("queues.worker.process_query", lambda _payload: ANSWER)
    monkeypatch.setattr("queues.jobs.delivery.clock", lambda: made.now)
    monkeypatch.setattr("client.rq.outbox.unix_now", lambda: made.now)
    monkeypatch.setattr("rq.scheduler.current_timestamp", lambda: int(made.now))
    return made


def ids(answer: Any) -> list[str]:
    return [entry.decode() for entry in answer]


def verified(world: World, secret: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Check every request with the official library, at the time of its arrival; return the payloads."""
    payloads = []
    for at, _, got in world.received:

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None, at: float = at) -> datetime:  # type: ignore[override]
                return datetime.fromtimestamp(at, tz)

        monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Clock)
        payloads.append(got.verify(secret))
    return payloads


def test_a_failed_attempt_is_logged_as_a_warning_with_the_time_of_the_next(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.respond = lambda _url: Outcome(503, None, 0.01)
    world.register()
    job_id = world.ask()
    world.finish()
    world.run_until(world.now + 1)
    (delivery,) = world.deliveries(job_id)
    warnings = [record.getMessage() for record in caplog.records if record.name == "webhooks"]
    cause = "attempt 1 failed (the receiver answered 503)"
    next_at = f"{delivery.next_attempt_at:%Y-%m-%dT%H:%M:%SZ}"
    assert warnings == [f"delivery {delivery.delivery_id}: {cause}; the next attempt is at {next_at}"]


def test_a_receiver_that_is_down_for_hours_gets_every_webhook_on_schedule(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down for six hours: three of refused connections, three of 503. Then each next attempt succeeds."""
    back = START + 6 * 3_600

    def respond(_url: str) -> Outcome:
        if world.now >= back:
            return Outcome(200, None, 0.01)
        return Outcome(None, "refused", 0.01) if world.now < START + 3 * 3_600 else Outcome(503, None, 0.01)

    world.respond = respond
    endpoint = world.register()
    jobs = []
    for _ in range(12):
        jobs.append(world.ask(metadata={"order": "7"}))
        world.finish()
        world.run_until(world.now + 60)
    world.run_until_quiet()

    payloads = verified(world, endpoint.secret, monkeypatch)
    taken = [at for at, _, _ in world.received if at >= back]
    assert len(taken) == len(jobs)
    done = [
        payload["data"]["job_id"] for payload, (at, _, _) in zip(payloads, world.received, strict=True) if at >= back
    ]
    assert sorted(done) == sorted(jobs)
    for payload in payloads:
        assert payload["type"] == "job.finished"
        assert payload["data"]["result"] == "In 1887 [1]."
        assert payload["data"]["metadata"] == {"order": "7"}
        assert datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
    offsets = list(accumulate(SCHEDULE_SECONDS))
    for job in jobs:
        (delivery,) = world.deliveries(job)
        assert delivery.status is DeliveryStatus.DELIVERED
        begun = delivery.attempts[0].at
        tried = [(attempt.at - begun).total_seconds() for attempt in delivery.attempts]
        assert tried == offsets[:6], "0 s, 5 s, 5 min, 30 min, 2 h, 5 h"
        assert len({got.message_id for _, _, got in world.received if job in got.body.decode()}) == 1
        assert len({got.body for _, _, got in world.received if job in got.body.decode()}) == 1
    assert world.valkey.zcard("rag:webhook:due") == 0


def test_a_delivery_fails_after_the_ten_attempts_of_the_schedule(world: World) -> None:
    world.respond = lambda _: Outcome(500, None, 0.01)
    world.register()
    job = world.ask()
    world.finish()
    world.run_until_quiet()
    (delivery,) = world.deliveries(job)
    tried = [(attempt.at - utc_time(START)).total_seconds() for attempt in delivery.attempts]
    assert tried == [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 113_705, 185_705, 272_105]
    assert (delivery.status, delivery.reason) == (DeliveryStatus.FAILED, "the last attempt failed")
    stamps = [int(got.headers["webhook-timestamp"]) for _, _, got in world.received]
    assert stamps == [int(START + seconds) for seconds in tried]


def test_retry_after_delays_the_next_attempt_but_never_hastens_it(world: World) -> None:
    world.respond = lambda _: Outcome(429, None, 0.01, retry_after_seconds=100)
    world.register()
    job = world.ask()
    world.finish()
    world.work()
    world.now = world.due() or 0.0
    assert world.now == START + 100
    world.tick()
    assert world.due() == START + 400
    world.respond = lambda _: Outcome(503, None, 0.01, retry_after_seconds=10**6 - 1)
    world.now = START + 400
    world.tick()
    assert world.due() == START + 400 + 86_400
    assert len(world.deliveries(job)[0].attempts) == 3


def test_410_disables_the_endpoint_and_stops_its_pending_deliveries(world: World) -> None:
    world.respond = lambda _: Outcome(503, None, 0.01)
    endpoint = world.register()
    waiting = world.ask()
    world.finish()
    world.work()
    world.respond = lambda _: Outcome(410, None, 0.01)
    gone = world.ask()
    world.finish()
    world.work()
    assert world.store.endpoint(endpoint.endpoint_id).disabled_at == utc_time(world.now)
    world.run_until_quiet()
    assert [len(world.deliveries(job)[0].attempts) for job in (waiting, gone)] == [1, 1]
    assert world.deliveries(waiting)[0].reason == "the endpoint is disabled"
    assert world.deliveries(gone)[0].reason == "the receiver answered 410 Gone"
    later = world.ask()
    world.finish()
    assert world.deliveries(later) == []


def test_a_deleted_endpoint_is_sent_nothing_more(world: World) -> None:
    world.respond = lambda _: Outcome(500, None, 0.01)
    endpoint = world.register()
    job = world.ask()
    world.finish()
    world.work()
    world.store.delete_endpoint(endpoint)
    world.run_until_quiet()
    assert len(world.received) == 1
    assert world.deliveries(job)[0].reason == "the endpoint was deleted"


def test_each_receiver_gets_one_delivery(world: World) -> None:
    """Endpoints registered for the event, and the job's URL unless it is an endpoint; never another user's."""
    world.register("https://one.example.com/")
    world.register("https://two.example.com/", events=(EventType.FAILED,))
    world.register("https://three.example.com/", owner="other")
    world.ask(url="https://four.example.com/")
    world.ask(url="https://one.example.com/")
    world.finish()
    world.run_until_quiet()
    urls = sorted(url for _, url, _ in world.received)
    assert urls == ["https://four.example.com/", "https://one.example.com/", "https://one.example.com/"]
    for _, url, got in world.received:
        known = {endpoint.url: endpoint.secret for endpoint in world.store.endpoints("local")}
        expected = known.get(url) or world.store.default_secret("local")
        assert got.headers["webhook-signature"] == signature(expected, got)


def signature(secret: str, got: Received) -> str:
    stamp = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
    signed = standardwebhooks.webhooks.Webhook(secret).sign(got.message_id, stamp, got.body.decode())
    return str(signed)


def test_failed_and_cancelled_jobs_are_reported_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_payload: object) -> None:
        raise ValueError("secret-text")

    monkeypatch.setattr("queues.worker.process_query", fail)
    failed = world.ask(url=URL)
    world.work("rag_queries")
    cancelled = world.ask(url=URL)
    world.valkey.hset(f"rq:job:{cancelled}", "status", "canceled")
    world.valkey.delete("rq:queue:rag_queries")
    world.finish()
    world.run_until_quiet()
    payloads = {
        payload["data"]["job_id"]: payload
        for payload in verified(world, world.store.default_secret("local"), monkeypatch)
    }
    assert (payloads[failed]["type"], payloads[failed]["data"]["error_code"]) == ("job.failed", "internal")
    assert (payloads[cancelled]["type"], payloads[cancelled]["data"]["status"]) == ("job.cancelled", "cancelled")
    assert "secret-text" not in str(payloads)


def test_a_job_without_receivers_has_no_outbox_entry(world: World) -> None:
    job = world.ask()
    world.register(owner="other")
    world.finish()
    assert world.relay.relay_job(job) == 0
    assert [key for key in world.valkey.keys("rag:webhook:*") if b"endpoint" not in key] == []


def test_a_worker_that_dies_right_after_the_job_loses_no_webhook(world: World) -> None:
    """The job has ended without a relay: the next sweep of any process relays it, once."""
    job = world.ask(url=URL)
    assert world.relay.sweep() == 0  # the job has not ended
    world.work("rag_queries")
    assert world.relay.sweep() == 1
    assert world.relay.sweep() == world.relay.relay_job(job) == 0
    world.run_until_quiet()
    assert len(world.received) == 1


def test_relaying_twice_at_once_makes_one_delivery(world: World) -> None:
    """Two processes read the same entry before either deletes it."""
    job = world.ask(url=URL)
    world.work("rag_queries")
    one, two = world.relay, world.relay
    entry = one._entry(job)
    assert entry is not None
    one._relay(entry)
    two._relay(entry)
    world.run_until_quiet()
    assert len(world.received) == 1
    two._relay(entry)
    world.run_until_quiet()
    assert len(world.received) == 1
    assert len(world.deliveries(job)) == 1


def test_a_worker_relays_a_job_without_waiting_for_the_sweep(world: World) -> None:
    job = world.ask(url=URL)
    assert world.relay.relay_job(job) == 0  # not yet
    world.work("rag_queries")
    assert world.relay.relay_job(job) == 1


def lose_scheduled(world: World, job: str) -> None:
    world.valkey.zrem("rq:scheduled:rag_webhooks", job)
    world.valkey.delete(f"rq:job:{job}")


def nobody_schedules(_world: World, _job: str) -> None:
    """No worker runs a scheduler: the sweep does the work of the scheduler."""


def lose_queued(world: World, job: str) -> None:
    world.valkey.zrem("rq:scheduled:rag_webhooks", job)
    world.valkey.hset(f"rq:job:{job}", "status", "queued")


def die_started(world: World, job: str) -> None:
    world.valkey.zrem("rq:scheduled:rag_webhooks", job)
    world.valkey.hset(f"rq:job:{job}", "status", "started")


def die_failed(world: World, job: str) -> None:
    world.valkey.zrem("rq:scheduled:rag_webhooks", job)
    world.valkey.hset(f"rq:job:{job}", "status", "failed")


@pytest.mark.parametrize(
    ("lose", "seconds"),
    [
        (lose_scheduled, LATE_SECONDS),
        (nobody_schedules, LATE_SECONDS),
        (lose_queued, LOST_SECONDS),
        (die_started, LOST_SECONDS),
        (die_failed, LATE_SECONDS),
    ],
)
def test_a_lost_attempt_is_requeued(lose: Callable[[World, str], None], seconds: int, world: World) -> None:
    world.respond = lambda _: Outcome(503, None, 0.01)
    job = world.ask(url=URL)
    world.finish()
    world.work()
    (rq_job,) = ids(world.valkey.zrange("rq:scheduled:rag_webhooks", 0, -1))
    world.respond = lambda _: Outcome(204, None, 0.01)
    lose(world, rq_job)
    world.now = START + 4 + seconds
    world.relay.sweep()
    world.work()
    assert len(world.received) == 1, "too early to call it lost"
    world.now += 2
    world.relay.sweep()
    world.relay.sweep()
    world.work()
    assert len(world.received) == 2
    world.run_until_quiet()
    assert len(world.received) == 2
    assert world.deliveries(job)[0].status is DeliveryStatus.DELIVERED


def test_an_attempt_that_runs_twice_is_recorded_once(world: World) -> None:
    """The job of an attempt runs again, as after a lost lease: the second run sends nothing."""
    world.respond = lambda _: Outcome(503, None, 0.01)
    job = world.ask(url=URL)
    world.finish()
    (rq_job,) = ids(world.valkey.lrange("rq:queue:rag_webhooks", 0, -1))
    world.work()
    world.valkey.hset(f"rq:job:{rq_job}", "status", "queued")
    world.valkey.rpush("rq:queue:rag_webhooks", rq_job)
    world.work()
    assert len(world.received) == 1
    assert len(world.deliveries(job)[0].attempts) == 1
    assert world.valkey.zcard("rq:scheduled:rag_webhooks") == 1


def test_an_attempt_on_a_long_queue_is_not_queued_twice(world: World) -> None:
    world.ask(url=URL)
    world.finish()
    world.now += 86_400
    world.relay.sweep()
    assert world.valkey.llen("rq:queue:rag_webhooks") == 1


def test_a_sweep_ends_when_valkey_goes_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so then, instead of a traceback for each job; the next sweep finds the jobs again."""
    world.ask(url=URL)
    world.work("rag_queries")

    def fail(*_args: object, **_kwargs: object) -> None:
        raise ValkeyConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(WebhookStore, "add_deliveries", fail)
        with pytest.raises(ValkeyConnectionError):
            world.relay.sweep()
    assert world.relay.sweep() == 1


def test_an_outbox_entry_whose_job_was_never_queued_is_dropped(world: World) -> None:
    """The API died between writing the entry and queueing the job: nobody got a 202."""
    job = world.ask(url=URL)
    world.valkey.delete(f"rq:job:{job}", "rq:queue:rag_queries")
    world.now += UNSEEN_SECONDS - 1
    assert world.relay.sweep() == 0
    assert world.valkey.zcard("rag:webhook:pending") == 1
    world.now += 2
    assert world.relay.sweep() == 0
    assert world.valkey.zcard("rag:webhook:pending") == 0


def test_a_job_that_expired_before_the_sweep_is_reported_as_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process was down for longer than results are kept."""
    job = world.ask(url=URL)
    world.relay.sweep()
    world.valkey.delete(f"rq:job:{job}", "rq:queue:rag_queries")
    assert world.relay.sweep() == 1
    world.run_until_quiet()
    (payload,) = verified(world, world.store.default_secret("local"), monkeypatch)
    assert (payload["type"], payload["data"]["error_code"]) == ("job.failed", "expired")


def test_unreadable_records_do_not_stop_the_sweep(world: World) -> None:
    """Unreadable records are skipped; the next job is reported as usual."""
    valkey = world.valkey
    valkey.zadd("rag:webhook:pending", {"junk": 1, "hash": 2, "odd": 3})
    valkey.hset("rag:webhook:intent:hash", mapping={"intent": "{", "seen": "1"})
    valkey.set("rq:job:odd", "no hash")
    valkey.zadd("rag:webhook:due", {"junk": 1})
    job = world.ask(url=URL)
    world.finish()
    world.run_until_quiet()
    assert world.deliveries(job)[0].status is DeliveryStatus.DELIVERED


def test_a_large_result_is_left_out_and_marked_truncated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queues.worker.process_query", lambda _payload: ANSWER | {"text": "ü" * 200_000})
    world.ask(url=URL)
    world.finish()
    world.run_until_quiet()
    (payload,) = verified(world, world.store.default_secret("local"), monkeypatch)
    assert payload["data"]["truncated"] is True
    assert "result" not in payload["data"]


def test_many_pending_entries_are_scanned_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.relay.MAX_SCANNED", 3)
    for _ in range(8):
        world.ask(url=URL)
    world.work("rag_queries")
    relay = world.relay
    found = sum(relay.sweep() for _ in range(math.ceil(8 / 3) + 2))
    assert found == 8


def test_a_receiver_that_hangs_is_tried_one_at_a_time_and_loses_no_attempt(world: World) -> None:
    """The other deliveries of this receiver wait; the deliveries of other receivers go on."""
    hangs = Outcome(None, "no answer within 15 s", 15.0, timed_out=True)
    world.respond = lambda url: hangs if "slow" in url else Outcome(204, None, 0.01)
    slow = [world.ask(url="https://slow.example.com/") for _ in range(5)]
    quick = world.ask(url=URL)
    world.finish()
    world.work()
    assert world.deliveries(quick)[0].status is DeliveryStatus.DELIVERED
    tries = [len(world.deliveries(job)[0].attempts) for job in slow]
    assert sum(tries) == 1
    assert ReceiverThrottle(world.valkey, "https://other.example.com/").start_attempt()
    for _ in range(2):  # the pause is over: one attempt is allowed, and the receiver still hangs
        world.valkey.delete(*world.valkey.keys("rag:webhook:probe:*"))
        world.now = world.due() or 0.0
        world.tick()
        assert not ReceiverThrottle(world.valkey, "https://SLOW.example.com/elsewhere").start_attempt()
    assert sum(len(world.deliveries(job)[0].attempts) for job in slow) == 3
    world.valkey.delete(*world.valkey.keys("rag:webhook:probe:*"))
    world.respond = lambda _: Outcome(204, None, 0.01)
    world.run_until_quiet()
    for job in slow:
        (delivery,) = world.deliveries(job)
        assert delivery.status is DeliveryStatus.DELIVERED
        assert len(delivery.attempts) <= 4


def test_a_user_whose_receivers_hang_gets_two_attempts_at_a_time(valkey: Redis) -> None:
    """The limit holds even though each attempt goes to another receiver, not yet known as slow."""
    hangs, answers = Outcome(None, "no answer within 15 s", 15.0, timed_out=True), Outcome(204, None, 0.01)
    number = count()

    def throttle(owner: str) -> ReceiverThrottle:
        name = str(next(number))
        return ReceiverThrottle(valkey, f"https://{name}.example.com/", owner=owner, delivery_id=name)

    first = [throttle("a:b") for _ in range(4)]
    assert all(attempt.start_attempt() for attempt in first)  # no receiver is known as slow yet
    for attempt in first:
        attempt.end_attempt(hangs)
    later = [throttle("a:b") for _ in range(5)]
    assert [attempt.start_attempt() for attempt in later] == [True, True, False, False, False]
    assert all(throttle(owner).start_attempt() for owner in ("a", "b", "local") for _ in range(5))
    later[0].end_attempt(answers)
    assert later[2].start_attempt()
    assert not later[3].start_attempt()


def test_every_url_of_a_job_gets_a_webhook(world: World) -> None:
    job = world.ask(url="https://one.example.com/")
    world.store.add_callback(job, owner="local", callback=Callback(url="https://two.example.com/"))
    world.store.add_callback(
        job, owner="local", callback=Callback()
    )  # another program has put the job on its queue again
    world.finish()
    world.run_until_quiet()
    assert sorted(url for _, url, _ in world.received) == ["https://one.example.com/", "https://two.example.com/"]
