"""The users of the deployed Valkey, from the file that docker-compose.yml gives it."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from tests.support.processes import ROOT

USERS = ROOT / "deploy" / "valkey" / "users.acl"
USER = "rag"
PASSWORD = "0d5c8e4f"


def rules(user: str = USER) -> list[str]:
    """Return what the file says of a user, word by word, with the hash of PASSWORD in it."""
    lines = [line for line in USERS.read_text().splitlines() if not line.startswith("#")]
    words = " ".join(lines).replace("PASSWORD_SHA256", hashlib.sha256(PASSWORD.encode()).hexdigest()).split()
    return words[words.index(user) + 1 :]


def allowed() -> set[str]:
    """Name the commands that the service's user may run."""
    return {word.removeprefix("+") for word in rules() if word.startswith("+")}


def as_user(url: str) -> str:
    """Return a server's URL with the service's user and password."""
    return urlsplit(url)._replace(netloc=f"{USER}:{PASSWORD}@{urlsplit(url).netloc}").geturl()


def restrict(server: Redis) -> None:
    """Give a server the service's user. The server's default user, whom tests look with, may still do everything."""
    ask(server, "ACL", "SETUSER", USER, "reset", *rules())


def ask(server: Redis, *command: str) -> Any:
    """Send a command that redis-py has no typed method for."""
    return server.execute_command(*command)  # type: ignore[no-untyped-call]


def denied(server: Redis) -> list[str]:
    """Tell what users were refused since the last call."""
    entries = server.acl_log()
    server.acl_log_reset()
    return [f"{entry['username']}: {entry['reason']} {entry['object']} ({entry['context']})" for entry in entries]
