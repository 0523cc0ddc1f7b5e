"""The thread that receives the commands which RQ publishes to a worker."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq.command import PUBSUB_CHANNEL_TEMPLATE

log = logging.getLogger("rq.worker")

LISTEN_SECONDS = 0.3
RECONNECT_SECONDS = 0.5


class CommandListener:
    """Calls `handle` with each command, a mapping with at least the key `command`.

    `on_subscribed` is called after each subscription: commands published before it were missed.
    """

    def __init__(
        self, valkey: Redis, worker: str, handle: Callable[[dict[str, Any]], None], *, on_subscribed: Callable[[], None]
    ) -> None:
        self._valkey = valkey
        self._channel = PUBSUB_CHANNEL_TEMPLATE % worker
        self._handle = handle
        self._on_subscribed = on_subscribed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="commands", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(LISTEN_SECONDS + 1)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (RedisError, OSError):
                self._stop.wait(RECONNECT_SECONDS)
            except Exception:
                log.exception("a command failed; the worker goes on")

    def _listen(self) -> None:
        with self._valkey.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(self._channel)
            while not self._stop.is_set():
                message = channel.get_message(timeout=LISTEN_SECONDS)
                if message is not None and message["type"] == "subscribe":
                    self._on_subscribed()
                elif message is not None and message["type"] == "message":
                    self._receive(message["data"])

    def _receive(self, data: object) -> None:
        payload = None
        if isinstance(data, bytes):
            with suppress(ValueError):
                payload = json.loads(data)
        if isinstance(payload, dict) and "command" in payload:
            self._handle(payload)
        else:
            log.warning("a command that cannot be read was ignored")
