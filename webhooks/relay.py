"""The outbox relay: it turns the outbox entry of an ended job into deliveries, even if a process dies in between.

An outbox entry is written in the same step that puts its job on the queue, and deleted after its deliveries are on
their queue. In between, `sweep` looks for entries whose job has ended. A worker that calls `relay_job` only shortens
the wait. The ids of deliveries are derived from job and receiver, so relaying an entry twice creates nothing twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from redis.exceptions import ConnectionError as ValkeyConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as ValkeyTimeoutError

from client.rq.origin import JobOrigin
from client.rq.outbox import OutboxEntry, read_outbox_entry
from client.rq.records import add_reads, read_replies
from client.valkey import keys
from client.valkey.scripts import load
from errors import AppError, QueueUnavailable, WebhookNotFound
from schemas import Failure, JobStatus, JobView
from settings import Settings
from webhooks.models import Delivery, Message, stable_id, utc_time
from webhooks.store import QUEUE, WebhookStore, connect, delivery_job_id, log_ttl_seconds

log = logging.getLogger("webhooks")

SWEEP_SECONDS: Final = 1.0
MAX_SCANNED: Final = 5_000
MAX_RELAYED: Final = 200
# After this time an entry whose job was never seen is dropped: the API died before it queued the job.
UNSEEN_SECONDS: Final = 3_600
# The sweep checks the RQ job of an attempt that is this late. A started job, or a queued one that is on no list, counts
# as lost only after LOST_SECONDS.
LATE_SECONDS: Final = 5
LOST_SECONDS: Final = 120
MAX_REQUEUED: Final = 100

_FIND_ENDED: Final = load(Path(__file__).parent / "lua" / "find_ended.lua")


class OutboxRelay:
    """Turns outbox entries into deliveries. `clock` gives Unix seconds."""

    def __init__(self, store: WebhookStore, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._valkey = store.valkey
        self._clock = clock
        self._scan_offset = 0

    def relay_job(self, job_id: str) -> int:
        """Create the deliveries of a job if it has ended and has an entry; return their number.

        Workers may call this after a job's end is written. If the call fails, the sweep does the same.
        """
        entry = self._entry(job_id)
        return 0 if entry is None else self._relay(entry)

    def sweep(self) -> int:
        """Create the deliveries of ended jobs, and requeue lost attempts; return the number of both.

        Raises QueueUnavailable and RedisError.
        """
        count = 0
        for job_id in self._find_ended():
            try:
                count += self.relay_job(job_id)
            except (QueueUnavailable, ValkeyConnectionError, ValkeyTimeoutError):
                raise
            except Exception:
                log.exception("the webhooks of job %s could not be created", job_id)
        return count + self._requeue_lost()

    def acquire_sweep(self, seconds: float) -> bool:
        """Acquire the right to be the only process that sweeps, for `seconds`. False also if there is nothing to do."""
        if not self._count_pending() and not self._valkey.zcard(keys.DELIVERIES_DUE):
            return False  # without a write: an idle service must not grow Valkey's append-only file
        return bool(self._valkey.set(keys.OUTBOX_SWEEPER, "1", nx=True, px=max(1, int(seconds * 1_000))))

    def _find_ended(self) -> list[str]:
        job_ids = _FIND_ENDED.call(
            self._valkey,
            [keys.OUTBOX_PENDING],
            [repr(self._clock()), str(self._scan_offset), str(MAX_SCANNED), str(UNSEEN_SECONDS)],
        )
        self._scan_offset = (
            self._scan_offset + MAX_SCANNED if self._scan_offset + MAX_SCANNED < self._count_pending() else 0
        )
        return [job_id.decode() for job_id in cast("list[bytes]", job_ids)[:MAX_RELAYED]]

    def _count_pending(self) -> int:
        return self._valkey.zcard(keys.OUTBOX_PENDING)

    def _entry(self, job_id: str) -> OutboxEntry | None:
        try:
            return read_outbox_entry(cast("dict[bytes, bytes]", self._valkey.hgetall(keys.outbox_entry(job_id))))
        except ValueError:
            log.warning("the outbox entry of job %s is unreadable and was dropped", job_id)
            self._drop_entry(job_id)
            return None

    def _relay(self, entry: OutboxEntry) -> int:
        """Turn an entry into deliveries and delete it; return the number of deliveries."""
        job = self._job(entry.job_id)
        if not job.status.terminal:
            return 0
        now = self._clock()
        deliveries: list[Delivery] = []
        origin = self._origin(entry.job_id)
        for message in (Message.of(job, entry.metadata), Message.of_response(job)):
            if message is not None and (made := self._deliveries(entry, message, now)):
                self.store.add_deliveries(made, now=now, message=message, origin=origin)
                deliveries += made
        # Deleted last: if this process dies before, the next sweep finds the entry again.
        self._drop_entry(entry.job_id)
        return len(deliveries)

    def _deliveries(self, entry: OutboxEntry, message: Message, now: float) -> list[Delivery]:
        """Make a delivery for each endpoint of the owner that accepts the event, and for each other URL of the job."""
        endpoints = [endpoint for endpoint in self.store.endpoints(entry.owner) if endpoint.accepts(message.type)]
        registered = {endpoint.url for endpoint in endpoints}
        urls = () if message.type.of_response else entry.urls
        return [
            *(
                self._delivery(entry, message, now, url=endpoint.url, endpoint_id=endpoint.endpoint_id)
                for endpoint in endpoints
            ),
            *(self._delivery(entry, message, now, url=url) for url in urls if url not in registered),
        ]

    @staticmethod
    def _delivery(entry: OutboxEntry, message: Message, now: float, *, url: str, endpoint_id: str = "") -> Delivery:
        return Delivery(
            delivery_id=stable_id(message.message_id, endpoint_id or url),
            owner=entry.owner,
            endpoint_id=endpoint_id,
            url=url,
            message_id=message.message_id,
            job_id=entry.job_id,
            type=message.type,
            created_at=utc_time(now),
            next_attempt_at=utc_time(now),
        )

    def _job(self, job_id: str) -> JobView:
        """Read a job. A job whose record has expired counts as failed: its end is unknown."""
        pipeline = self._valkey.pipeline(transaction=False)
        add_reads(pipeline, job_id)
        values, results = pipeline.execute()
        job = read_replies(job_id, values, results)
        if job is not None:
            return job
        expired = Failure(code="expired", detail="the job ended, but its result is no longer kept; ask again")
        return JobView(
            job_id=job_id, kind="chat", status=JobStatus.FAILED, created_at=utc_time(self._clock()), failure=expired
        )

    def _origin(self, job_id: str) -> JobOrigin:
        """Return the origin of the deliveries of a job: its request, and its own last attempt as their parent."""
        origin = self.store.origin_of(job_id)
        return JobOrigin(origin.request_id, origin.attempt_traceparent or origin.traceparent)

    def _requeue_lost(self) -> int:
        """Requeue late attempts whose RQ job is lost or was never moved from the schedule; return their number."""
        now = self._clock()
        late = cast(
            "list[bytes]",
            self._valkey.zrangebyscore(keys.DELIVERIES_DUE, 0, now - LATE_SECONDS, start=0, num=MAX_REQUEUED),
        )
        return sum(self._requeue_if_lost(delivery_id.decode(), now) for delivery_id in late)

    def _requeue_if_lost(self, delivery_id: str, now: float) -> bool:
        try:
            delivery = self.store.delivery(delivery_id)
        except WebhookNotFound:
            self._valkey.zrem(keys.DELIVERIES_DUE, delivery_id)
            return False
        job_id = delivery_job_id(delivery_id, delivery.seq)
        if not self._is_job_lost(job_id, now - (delivery.next_attempt_at or utc_time(0)).timestamp()):
            return False
        requeued = delivery.model_copy(update={"seq": delivery.seq + 1, "next_attempt_at": utc_time(now)})
        origin = self.store.origin_of(job_id)
        return self.store.save_delivery(requeued, expected=delivery.seq, now=now, remove_job=job_id, origin=origin)

    def _is_job_lost(self, job_id: str, late_seconds: float) -> bool:
        """Return True if the RQ job of an attempt that is `late_seconds` late will not make the attempt any more."""
        status = cast("bytes | None", self._valkey.hget(keys.job(job_id), "status"))
        if status == b"queued":
            is_listed = self._valkey.lpos(keys.queue(QUEUE), job_id) is not None
            return not is_listed and late_seconds > LOST_SECONDS
        return late_seconds > LOST_SECONDS if status == b"started" else True

    def _drop_entry(self, job_id: str) -> None:
        self._valkey.delete(keys.outbox_entry(job_id))
        self._valkey.zrem(keys.OUTBOX_PENDING, job_id)


class RelayThread:
    """Sweeps once a second, in only one of all processes at a time. Survives outages of Valkey."""

    def __init__(self, relay: OutboxRelay, *, seconds: float = SWEEP_SECONDS) -> None:
        self._relay = relay
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="webhook-sweep", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and close its connections."""
        self._stop.set()
        self._thread.join(10)
        self._relay.store.valkey.close()

    def _loop(self) -> None:
        unavailable = False
        while not self._stop.wait(self._seconds):
            try:
                if self._relay.acquire_sweep(self._seconds * 0.9):
                    while self._relay.sweep() >= MAX_RELAYED and not self._stop.is_set():
                        pass  # there is more
                unavailable = False
            except (RedisError, OSError, AppError) as error:
                if not unavailable:
                    log.warning("Valkey is away (%s): webhooks wait until it answers", type(error).__name__)
                unavailable = True
            except Exception:
                log.exception("a sweep of webhooks failed: the next follows in a second")


def open_relay(settings: Settings) -> OutboxRelay:
    """Make the relay of a process from its settings. Connects on first use."""
    store = WebhookStore(connect(settings.queue_url), ttl_seconds=log_ttl_seconds(settings))
    return OutboxRelay(store)
