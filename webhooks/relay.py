"""From the end of a job to its webhooks, whoever dies in between.

An outbox entry is written in the same step that puts its job on the queue, and deleted after its deliveries are on
theirs. In between, `sweep` compares: an entry whose job has ended is announced. A worker that calls `job_ended` only
saves it the wait. Ids of deliveries are made of job and receiver, so announcing twice makes nothing twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from redis.exceptions import RedisError

from client.rq.outbox import OutboxEntry, read_outbox_entry
from client.rq.records import FIELDS, read_replies
from client.valkey import keys
from client.valkey.scripts import load
from errors import AppError, QueueUnavailable, WebhookNotFound
from schemas import Failure, JobStatus, JobView
from settings import Settings
from webhooks.models import Delivery, Message, make_id, moment
from webhooks.store import QUEUE, WebhookStore, connect, keep_seconds, rq_job_id

log = logging.getLogger("webhooks")

SWEEP_SECONDS: Final = 1.0
MAX_SCANNED: Final = 5_000
MAX_ANNOUNCED: Final = 200
# The job of an intent that was never seen was never put on its queue: the API died between the two.
UNSEEN_SECONDS: Final = 3_600
# How long after its time an attempt may not have begun before the sweep looks where its RQ job is, and how long
# a started one may take.
LATE_SECONDS: Final = 5
LOST_SECONDS: Final = 120
MAX_REVIVED: Final = 100

_FIND_ENDED: Final = load(Path(__file__).parent / "lua" / "find_ended.lua")


class OutboxRelay:
    """Turns intents into deliveries. `clock` gives Unix seconds."""

    def __init__(self, store: WebhookStore, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._valkey = store.valkey
        self._clock = clock
        self._place = 0

    def job_ended(self, job_id: str) -> int:
        """Announce a job at once, if it has ended and somebody wants to know; return how many deliveries were made.

        For workers, after the end of the job was written. It may fail or be left out: the sweep announces too.
        """
        intent = self._intent(job_id)
        return 0 if intent is None else self._announce(intent)

    def sweep(self) -> int:
        """Announce what has ended, and put lost attempts back on the queue; return how many of both."""
        done = 0
        for job_id in self._find_ended():
            try:
                done += self.job_ended(job_id)
            except QueueUnavailable:
                raise
            except Exception:
                log.exception("the webhooks of job %s cannot be made", job_id)
        return done + self._revive()

    def take_turn(self, seconds: float) -> bool:
        """Ask to be the only one who sweeps, for so long. False also when there is nothing to sweep."""
        if not self._pending() and not self._valkey.zcard(keys.DELIVERIES_DUE):
            return False  # and nothing was written: an idle service leaves Valkey's log alone
        return bool(self._valkey.set(keys.OUTBOX_SWEEPER, "1", nx=True, px=max(1, int(seconds * 1_000))))

    def _find_ended(self) -> list[str]:
        answer = _FIND_ENDED.call(
            self._valkey,
            [keys.OUTBOX_PENDING],
            [repr(self._clock()), str(self._place), str(MAX_SCANNED), str(UNSEEN_SECONDS)],
        )
        self._place = self._place + MAX_SCANNED if self._place + MAX_SCANNED < self._pending() else 0
        return [job_id.decode() for job_id in cast("list[bytes]", answer)[:MAX_ANNOUNCED]]

    def _pending(self) -> int:
        return self._valkey.zcard(keys.OUTBOX_PENDING)

    def _intent(self, job_id: str) -> OutboxEntry | None:
        try:
            return read_outbox_entry(cast("dict[bytes, bytes]", self._valkey.hgetall(keys.outbox_entry(job_id))))
        except ValueError:
            log.warning("what is stored of the webhook of job %s cannot be read and was dropped", job_id)
            self._forget(job_id)
            return None

    def _announce(self, intent: OutboxEntry) -> int:
        """Turn an entry into deliveries, and delete it. Returns how many."""
        job = self._job(intent.job_id)
        if not job.status.terminal:
            return 0
        now = self._clock()
        message = Message.of(job, intent.metadata)
        deliveries = self._deliveries(intent, message, now)
        if deliveries:
            self.store.add_deliveries(deliveries, now=now, message=message)
        # Only then: a process that dies in between leaves the entry to the next sweep.
        self._forget(intent.job_id)
        return len(deliveries)

    def _deliveries(self, intent: OutboxEntry, message: Message, now: float) -> list[Delivery]:
        """Make one delivery for each receiver: the owner's endpoints that want it, and the URLs of the job."""
        listed = [endpoint for endpoint in self.store.endpoints(intent.owner) if endpoint.wants(message.type)]
        made = [self._delivery(intent, message, now, url=one.url, endpoint_id=one.endpoint_id) for one in listed]
        known = {endpoint.url for endpoint in listed}
        return made + [self._delivery(intent, message, now, url=url) for url in intent.urls if url not in known]

    @staticmethod
    def _delivery(intent: OutboxEntry, message: Message, now: float, *, url: str, endpoint_id: str = "") -> Delivery:
        return Delivery(
            delivery_id=make_id(message.message_id, endpoint_id or url),
            owner=intent.owner,
            endpoint_id=endpoint_id,
            url=url,
            message_id=message.message_id,
            job_id=intent.job_id,
            type=message.type,
            created_at=moment(now),
            next_attempt_at=moment(now),
        )

    def _job(self, job_id: str) -> JobView:
        """Read a job. A job whose record has expired counts as failed: its end is unknown."""
        pipeline = self._valkey.pipeline(transaction=False)
        pipeline.hmget(keys.job(job_id), *FIELDS)
        pipeline.xrevrange(keys.results(job_id), count=1)
        values, results = pipeline.execute()
        job = read_replies(job_id, values, results)
        if job is not None:
            return job
        expired = Failure(code="expired", detail="the job ended, but its result is no longer kept; ask again")
        return JobView(
            job_id=job_id, kind="chat", status=JobStatus.FAILED, created_at=moment(self._clock()), failure=expired
        )

    def _revive(self) -> int:
        """Put attempts back on the queue whose time has passed and whose RQ job is lost, or that nobody schedules."""
        now = self._clock()
        late = cast(
            "list[bytes]",
            self._valkey.zrangebyscore(keys.DELIVERIES_DUE, 0, now - LATE_SECONDS, start=0, num=MAX_REVIVED),
        )
        return sum(self._revive_one(delivery_id.decode(), now) for delivery_id in late)

    def _revive_one(self, delivery_id: str, now: float) -> bool:
        try:
            delivery = self.store.delivery(delivery_id)
        except WebhookNotFound:
            self._valkey.zrem(keys.DELIVERIES_DUE, delivery_id)
            return False
        job_id = rq_job_id(delivery_id, delivery.seq)
        if not self._is_lost(job_id, now - (delivery.next_attempt_at or moment(0)).timestamp()):
            return False
        again = delivery.model_copy(update={"seq": delivery.seq + 1, "next_attempt_at": moment(now)})
        return self.store.save_delivery(again, expected=delivery.seq, now=now, drop=job_id)

    def _is_lost(self, job_id: str, late_seconds: float) -> bool:
        status = cast("bytes | None", self._valkey.hget(keys.job(job_id), "status"))
        if status == b"queued":
            waits = self._valkey.lpos(keys.queue(QUEUE), job_id) is not None
            return not waits and late_seconds > LOST_SECONDS
        return late_seconds > LOST_SECONDS if status == b"started" else True

    def _forget(self, job_id: str) -> None:
        self._valkey.delete(keys.outbox_entry(job_id))
        self._valkey.zrem(keys.OUTBOX_PENDING, job_id)


class RelayThread:
    """Sweeps every second, in turns with all other processes that do. Survives outages of Valkey."""

    def __init__(self, events: OutboxRelay, *, seconds: float = SWEEP_SECONDS) -> None:
        self._events = events
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="webhook-sweep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close its connections."""
        self._stop.set()
        self._thread.join(10)
        self._events.store.valkey.close()

    def _loop(self) -> None:
        away = False
        while not self._stop.wait(self._seconds):
            try:
                if self._events.take_turn(self._seconds * 0.9):
                    while self._events.sweep() >= MAX_ANNOUNCED and not self._stop.is_set():
                        pass  # there is more
                away = False
            except (RedisError, OSError, AppError) as error:
                if not away:
                    log.warning("Valkey is away (%s): webhooks wait", type(error).__name__)
                away = True
            except Exception:
                log.exception("sweeping webhooks failed; it goes on")


def open_events(settings: Settings) -> OutboxRelay:
    """Make the webhooks of a process from its settings. Connects on first use."""
    store = WebhookStore(connect(settings.queue_url), keep_seconds=keep_seconds(settings.webhook_log_days))
    return OutboxRelay(store)
