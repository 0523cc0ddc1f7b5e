"""Checks of Valkey, the queues, webhooks and the API, for `main.py doctor`."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from redis.exceptions import RedisError

from cli.findings import Findings, fail, ok, warn
from client.rq.status import warnings_about
from client.rq_client import JobQueue
from client.valkey.connection import valkey_call
from errors import WebhookUrlRefused
from observability import commands
from observability.wording import counted
from settings import Settings
from webhooks.ssrf import AddressPolicy, parse_url, resolve_addresses
from webhooks.store import WebhookStore, connect, log_ttl_seconds

# RagWorker needs LMOVE.
MIN_VERSION = (6, 2)
MAX_SKEW_SECONDS = 2.0
# Share of maxmemory from which the operator is told.
FULL_SHARE = 0.9
TIMEOUT_SECONDS = 3.0


async def check_valkey(settings: Settings, url: str, *, shown: str) -> Findings:
    """Return the findings about the server at `url` and about the queues. `shown`: the URL as it may be printed.

    Raises QueueUnavailable for a server that does not answer or takes no jobs.
    """
    queue = JobQueue.from_settings(settings, url)
    try:
        condition = await queue.condition()
        states = await queue.states()
        incomplete = await queue.incomplete_uploads()
        asked_at = time.time()
        async with valkey_call():
            seconds, microseconds = await queue.valkey.time()
        skew = seconds + microseconds / 1e6 - (asked_at + time.time()) / 2
        async with valkey_call():
            info: dict[str, Any] = await queue.valkey.info()
        appendfsync = await _appendfsync(queue, url)
    finally:
        await queue.close()
    waiting = ", ".join(f"{state.name} {state.waiting} ({counted(len(state.workers), 'worker')})" for state in states)
    return [
        *_check_server(info, shown, appendfsync),
        *_check_clock(skew),
        ok("queues", f"jobs that wait: {waiting}"),
        *(warn("queues", warning) for warning in warnings_about(condition, states, incomplete=incomplete)),
    ]


async def _appendfsync(queue: JobQueue, url: str) -> str | None:
    """Return when the server syncs its file; None for a user of its own, who may not ask, as that of users.acl."""
    if urlsplit(url).username:
        return None
    with suppress(RedisError):
        found = cast("dict[Any, Any]", await queue.valkey.config_get("appendfsync"))
        value = next(iter(found.values()), None)
        return value.decode() if isinstance(value, bytes) else value
    return None


def _check_server(info: dict[str, Any], shown: str, appendfsync: str | None) -> Findings:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", "?"))
    sentence = f"{name} {version} answers at {shown}"
    numbers = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        yield fail("Valkey", f"{sentence}, which is too old: install Valkey, or Redis 6.2 or newer")
    else:
        yield ok("Valkey", sentence)
    if not info.get("aof_enabled"):
        yield warn("Valkey", "keeps no append-only file, so a crash loses accepted jobs: set appendonly yes")
    elif appendfsync == "always":
        yield ok("Valkey", "syncs each write to its append-only file before it answers")
    else:
        how = "when is not shown to this user" if appendfsync is None else f"appendfsync {appendfsync}"
        yield ok("Valkey", f"syncs its append-only file ({how}); with `always` no crash loses accepted jobs")
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit and used > FULL_SHARE * limit:
        yield warn("Valkey", f"uses {used / limit:.0%} of its maxmemory and refuses jobs when it is full: raise it")
    else:
        bound = f"of {limit / 1024**2:.0f} MiB" if limit else "without a limit"
        yield ok("Valkey", f"uses {used / 1024**2:.0f} MiB of memory {bound}")


def _check_clock(skew: float) -> Findings:
    if abs(skew) > MAX_SKEW_SECONDS:
        yield warn("clock", f"Valkey's clock differs by {skew:+.1f} s from this machine's: set both by NTP")
    else:
        yield ok("clock", f"Valkey's clock differs by {skew:+.2f} s from this machine's")


def check_webhooks(settings: Settings, url: str) -> Findings:
    """Yield whether the names of all endpoints can be resolved, and may be called. Raises QueueUnavailable."""
    policy = AddressPolicy(settings.webhook_allow_http, settings.webhook_allow_private)
    with closing(connect(url)) as valkey:
        endpoints = WebhookStore(valkey, ttl_seconds=log_ttl_seconds(settings)).endpoints(None)
    refused: dict[str, str] = {}
    for endpoint in endpoints:
        try:
            resolve_addresses(parse_url(endpoint.url, policy), policy, timeout_seconds=TIMEOUT_SECONDS)
        except WebhookUrlRefused as error:
            refused[endpoint.endpoint_id] = error.detail
        except OSError:
            refused[endpoint.endpoint_id] = "its host has no address here: check the name, and the resolver"
    for endpoint_id, reason in refused.items():
        yield warn("webhooks", f"endpoint {endpoint_id} cannot be called: {reason}")
    yield ok("webhooks", f"{counted(len(endpoints) - len(refused), 'endpoint')} can be called")


def check_api(settings: Settings) -> Findings:
    """Yield whether an API answers at HOST and PORT of these settings."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 (only compared)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            answered = http.get(f"{url}/health").is_success
    except httpx.HTTPError:
        answered = False
    if answered:
        yield ok("API", f"answers at {url}")
    else:
        yield warn("API", f"does not answer at {url}: start `{commands.script('main.py')}`, or run doctor beside it")
