"""The commands `docker` and `docker compose`, on a copy of the checkout that the trial may write to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND_SECONDS = 1800.0  # a build on a slow network


class TrialFailed(Exception):
    """A step did not show what it should; the text says what was seen."""


def program(name: str) -> str:
    """Return the path of a program of this machine. Raises TrialFailed if it is not here."""
    path = shutil.which(name)
    if path is None:
        raise TrialFailed(f"`{name}` is not on this machine")
    return path


def run(command: list[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a command; return all it printed. Raises TrialFailed if the exit code is not 0."""
    code, printed = attempt(command, folder=folder, environment=environment)
    if code != 0:
        raise TrialFailed(f"`{' '.join(command)}` exited with {code}:\n{printed[-4000:]}")
    return printed


def attempt(
    command: list[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command; return its exit code and all it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise TrialFailed(f"`{' '.join(command)}` took longer than {COMMAND_SECONDS:.0f} s") from error
    return done.returncode, done.stdout


def why_not() -> str | None:
    """Return why there can be no trial here, with what to do; None if Docker and its compose plugin answer."""
    if shutil.which("docker") is None:
        return "There is no `docker` on this machine. Install Docker with its compose plugin and run this again."
    if attempt(["docker", "info"])[0] != 0:
        return "No Docker daemon answers. Start one, or name one in DOCKER_HOST, and run this again."
    if attempt(["docker", "compose", "version"])[0] != 0:
        return (
            "`docker compose` is missing: install Docker's compose plugin (docker-compose-plugin) and run this again."
        )
    if (taken := attempt(["docker", "ps", "-aq", "--filter", "name=^valkey_queue$"])[1].strip()) != "":
        return f"A container named valkey_queue exists ({taken}). Remove it (`docker compose down`) and run this again."
    return None


@dataclass(frozen=True)
class Compose:
    """`docker compose` in a folder, with these variables and the files and profiles of the moment."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()

    def __call__(self, *arguments: str) -> str:
        """Run one command; return what it printed. Raises TrialFailed."""
        return run(self._command(*arguments), folder=self.folder, environment=self.variables)

    def attempt(self, *arguments: str) -> tuple[int, str]:
        """Run one command; return its exit code and what it printed."""
        return attempt(self._command(*arguments), folder=self.folder, environment=self.variables)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what `docker inspect` says of each container of a service."""
        names = self("ps", "--all", "--quiet", service).split()
        return inspect(names)

    def image(self, service: str) -> str:
        """Return the name of a service's image."""
        return str(json.loads(self("config", "--format", "json"))["services"][service]["image"])

    def wait_healthy(self, *services: str, seconds: float = 300.0) -> None:
        """Wait until every container of the services is healthy. Raises TrialFailed with the log of one that is not."""
        for service in services:
            names = self("ps", "--all", "--quiet", service).split()
            wait_until(
                lambda names=names: _all_healthy(inspect(names)),  # type: ignore[misc]
                seconds=seconds,
                what=lambda service=service: f"{service} is not healthy:\n{self('logs', '--tail', '40', service)}",  # type: ignore[misc]
                pause=1.0,
            )

    def _command(self, *arguments: str) -> list[str]:
        files = [part for name in self.files for part in ("-f", name)]
        profiles = [part for name in self.profiles for part in ("--profile", name)]
        return ["docker", "compose", *files, *profiles, *arguments]


def inspect(names: list[str]) -> list[dict[str, Any]]:
    """Return what `docker inspect` says of each container."""
    found: list[dict[str, Any]] = json.loads(run(["docker", "inspect", *names])) if names else []
    return found


def _all_healthy(containers: list[dict[str, Any]]) -> bool:
    return bool(containers) and all(
        container["State"].get("Health", {}).get("Status") == "healthy" for container in containers
    )


def wait_until(
    condition: Callable[[], object], *, seconds: float, what: Callable[[], str], pause: float = 0.25
) -> None:
    """Wait for a condition, asked every `pause` seconds. Raises TrialFailed, with what `what` returns then."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TrialFailed(f"after {seconds:.0f} s: {what()}")
        time.sleep(pause)
