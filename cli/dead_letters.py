"""Jobs that failed: `main.py dead list|retry|drop`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from redis.asyncio import Redis
from redis.exceptions import RedisError

from client.rq.dead_letters import DeadLetters
from client.valkey import embedded
from errors import AppError, QueueUnavailable
from observability import commands
from observability.wording import counted
from settings import Settings, without_password


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dead`."""
    parser.add_argument("action", choices=["list", "retry", "drop"])
    parser.add_argument("job_ids", nargs="*", type=commands.parse_id, metavar="ID", help="jobs to retry or drop")
    parser.add_argument(
        "--all", action="store_true", help="all dead letters; retry leaves out those that would fail again"
    )


def run(settings: Settings, options: argparse.Namespace) -> int:
    """List dead letters, or retry or drop some of them. Returns 1 when an id is not a dead letter.

    Raises AppError when neither an id nor --all is given, QueueUnavailable when Valkey does not answer.
    """
    if options.action != "list" and not (options.job_ids or options.all):
        raise AppError(f"name the jobs to {options.action}: their ids, or --all")
    url = embedded.require_url(settings)
    try:
        return asyncio.run(_run(url, options))
    except RedisError:
        raise QueueUnavailable(f"{without_password(url)} does not answer: is it running?") from None


async def _run(url: str, options: argparse.Namespace) -> int:
    async with Redis.from_url(url) as valkey:
        letters = DeadLetters(valkey)
        return await (_list(letters) if options.action == "list" else _change(letters, options))


async def _list(letters: DeadLetters) -> int:
    dead_letters = await letters.list()
    for letter in dead_letters:
        mark = "" if letter.retryable else " (a retry cannot help)"
        print(f"{letter.job_id}  {letter.queue:13}  {letter.ended_at}  {letter.code}: {letter.detail}{mark}")
    print(counted(len(dead_letters), "dead letter"))
    return 0


async def _change(letters: DeadLetters, options: argparse.Namespace) -> int:
    retrying = options.action == "retry"
    dead_letters = await letters.list() if options.all else []
    left_out = [letter for letter in dead_letters if retrying and not letter.retryable]
    job_ids = [letter.job_id for letter in dead_letters if letter not in left_out] if options.all else options.job_ids
    unknown = await (letters.retry(job_ids) if retrying else letters.drop(job_ids))
    for job_id in unknown:
        print(f"{job_id} is not a dead letter: see `{commands.script('main.py')} dead list`", file=sys.stderr)
    print(f"{len(job_ids) - len(unknown)} {'retried' if retrying else 'dropped'}")
    if left_out:
        print(f"{len(left_out)} left out: the file cannot be read, or was deleted (name the id to retry it anyway)")
    return 1 if unknown else 0
