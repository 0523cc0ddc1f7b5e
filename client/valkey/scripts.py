"""Lua scripts: each a file of its own, read once, called by its SHA1.

A script is sent to a server once. Sent with every call, scripts made a question 15,047 bytes long instead of 1,678.

A line `-- include FILE` stands for the text of FILE, a path relative to the including file; a file is included once.
Constants that Python knows too (keys, limits) are not written in Lua: `load` puts `local NAME = value` before the
script for each constant that the script mentions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import redis.asyncio as aioredis
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import NoScriptError

from client.valkey import keys

Constant = str | int | float | tuple[str, ...]

_INCLUDE = re.compile(r"^-- include (\S+)$", re.MULTILINE)


class Script:
    """A Lua script that a Valkey server runs. `text` is complete: with constants and includes."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, valkey: Redis, script_keys: Sequence[str] = (), arguments: Sequence[Any] = ()) -> Any:
        """Run the script. Sends its text only to a server that does not have it, as after a restart."""
        try:
            return valkey.evalsha(self.sha1, len(script_keys), *script_keys, *arguments)
        except NoScriptError:
            return valkey.eval(self.text, len(script_keys), *script_keys, *arguments)

    async def call_async(
        self, valkey: aioredis.Redis, script_keys: Sequence[str] = (), arguments: Sequence[Any] = ()
    ) -> Any:
        """Run the script as `call` does."""
        try:
            return await valkey.evalsha(self.sha1, len(script_keys), *script_keys, *arguments)
        except NoScriptError:
            return await valkey.eval(self.text, len(script_keys), *script_keys, *arguments)

    def add_to(self, pipeline: Any, script_keys: Sequence[str] = (), arguments: Sequence[Any] = ()) -> None:
        """Add a call to a pipeline, sync or async. The caller, who executes the pipeline, handles NoScriptError."""
        pipeline.evalsha(self.sha1, len(script_keys), *script_keys, *arguments)

    def transaction(self, valkey: Redis, fill: Callable[[Pipeline], None]) -> list[Any]:
        """Run the transaction that `fill` adds commands to, and return the replies.

        A transaction whose script the server lacks runs its other commands all the same. Such a transaction is run a
        second time, with the script loaded. Two conditions make the second run safe: this script is the only script in
        the transaction, so that either all calls failed or no call did; and the other commands can be repeated.
        """
        with valkey.pipeline(transaction=True) as pipeline:
            fill(pipeline)
            try:
                return pipeline.execute()
            except NoScriptError:
                valkey.script_load(self.text)
            fill(pipeline)
            return pipeline.execute()

    async def transaction_async(
        self, valkey: aioredis.Redis, fill: Callable[[aioredis.client.Pipeline], None]
    ) -> list[Any]:
        """Run a transaction as `transaction` does."""
        async with valkey.pipeline(transaction=True) as pipeline:
            fill(pipeline)
            try:
                return await pipeline.execute()
            except NoScriptError:
                await valkey.script_load(self.text)
            fill(pipeline)
            return await pipeline.execute()


class ScriptCall(NamedTuple):
    """A script with the keys and arguments of one call."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Any]

    def run(self, valkey: Redis) -> Any:
        """Run the script as `Script.call` does."""
        return self.script.call(valkey, self.keys, self.arguments)


def run_all(valkey: Redis, calls: Sequence[ScriptCall], *, scripts: Sequence[Script]) -> list[Any]:
    """Run calls in one round trip, in order. Returns for each call its reply or the ResponseError of the call.

    A server that lacks a script gets all `scripts`, in one step, and runs the calls that failed for this reason. So a
    call does not overtake another where both scripts are loaded here only.
    """
    replies = _run(valkey, calls)
    missed = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missed:
        with valkey.pipeline(transaction=True) as pipeline:
            for script in scripts:
                pipeline.script_load(script.text)
            pipeline.execute()
        for place, reply in zip(missed, _run(valkey, [calls[place] for place in missed]), strict=True):
            replies[place] = reply
    return replies


def _run(valkey: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    pipeline = valkey.pipeline(transaction=False)
    for script, script_keys, arguments in calls:
        script.add_to(pipeline, script_keys, arguments)
    return pipeline.execute(raise_on_error=False)


def load(path: Path, constants: Mapping[str, Constant] | None = None) -> Script:
    """Read a script with its includes and the constants that it mentions, from `constants` and keys.LUA_CONSTANTS.

    Raises RuntimeError when a file is missing.
    """
    body = _read(path, set())
    available = {**keys.LUA_CONSTANTS, **(constants or {})}
    mentioned = set(re.findall(r"\b[A-Z][A-Z0-9_]*\b", body))
    prelude = [f"local {name} = {_literal(value)}\n" for name, value in available.items() if name in mentioned]
    return Script(path.stem, "".join(prelude) + body)


def _read(path: Path, included: set[Path]) -> str:
    """Return the text of a Lua file; "" for a file that is included already."""
    path = path.resolve()
    if path in included:
        return ""
    included.add(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RuntimeError(
            f"the Lua script {path} cannot be read ({error.strerror}): it is a part of this program, install it again"
        ) from None
    return _INCLUDE.sub(lambda match: _read(path.parent / match[1], included), text)


def _literal(value: Constant) -> str:
    """Write a constant as Lua; a tuple is a table of texts."""
    if isinstance(value, tuple):
        return "{" + ", ".join(_literal(part) for part in value) + "}"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
