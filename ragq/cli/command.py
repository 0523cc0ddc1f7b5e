"""What all commands have in common: the options `--url` and `--json`, the client, errors and the exit status."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from ragq.cli.output import Output
from ragq.client import Client
from ragq.config import config_path
from ragq.errors import (
    ConfigError,
    JobFailed,
    KeyRefused,
    NotFinished,
    RagqError,
    RateLimited,
    RequestRefused,
    ServerBusy,
    ServerUnreachable,
    TooLarge,
    UnexpectedResponse,
    UploadFailed,
)

_UPLOAD_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_ANSWERED = 3
EXIT_REFUSED = 4
EXIT_UNREACHABLE = 5
EXIT_INTERRUPTED = 130
# A command tries this long; a retry after a limit of the server may take a minute.
RETRY_SECONDS = 60.0

_EXITS: list[tuple[type[RagqError] | tuple[type[RagqError], ...], int]] = [
    (ConfigError, EXIT_USAGE),
    ((JobFailed, UploadFailed), EXIT_FAILED),
    ((ServerUnreachable, UnexpectedResponse, RateLimited, ServerBusy, NotFinished), EXIT_UNREACHABLE),
    (RequestRefused, EXIT_REFUSED),
]
_HINTS: dict[type[RagqError], str] = {
    ServerUnreachable: "Start the server (`make run`), or name another one: `ragq login URL`, RAGQ_URL or --url.",
    UnexpectedResponse: "Check the URL of the server: `ragq login URL`, RAGQ_URL or --url.",
    KeyRefused: "Save a key with `ragq login`, or set RAGQ_API_KEY. `main.py keys create` on the server makes one.",
    TooLarge: "Split the file, or raise MAX_UPLOAD_MB of the server.",
}
FORBIDDEN = 403


def with_client(function: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command the options `--url` and `--json`, a client and an output, and end it with its exit status."""

    @click.option("--url", metavar="URL", help="The server, instead of the one of RAGQ_URL or `ragq login`.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
    @functools.wraps(function)
    def command(*arguments: Any, url: str | None, as_json: bool, **options: Any) -> None:
        output = Output(as_json=as_json)
        try:
            with Client(url, retry_seconds=RETRY_SECONDS) as client:
                status = function(client, output, *arguments, **options)
        except RagqError as error:
            end(output, error)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(status or 0)

    return command


def end(output: Output, error: RagqError) -> NoReturn:
    """Print an error and what to do about it, and end the program."""
    status = exit_status(error)
    hint = _hint(error)
    output.failure(type(error).__name__, error.detail, hint=hint, **members(error), exit_status=status)
    sys.exit(status)


def exit_status(error: RagqError) -> int:
    return next(status for kinds, status in _EXITS if isinstance(error, kinds))


def members(error: RagqError) -> dict[str, object]:
    """Return what programs may want to know of an error."""
    if isinstance(error, RequestRefused):
        wait = error.retry_after_seconds
        return {"status": error.status} | ({} if wait is None else {"retry_after_seconds": wait})
    if isinstance(error, JobFailed):
        return {"job_id": error.job_id, "status": error.status}
    return {"reason": error.upload.reason} if isinstance(error, UploadFailed) else {}


def _hint(error: RagqError) -> str:
    """Return what to do, where the sentence of the error does not say so; "" else."""
    if isinstance(error, RateLimited) and error.retry_after_seconds is not None:
        return f"Try again in {error.retry_after_seconds:.0f} s."
    if isinstance(error, KeyRefused) and error.status == FORBIDDEN:
        return f"The key is of RAGQ_API_KEY or {config_path()}: use one with the scope."
    return next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), "")


def is_upload_id(text: str) -> bool:
    """Return True for the id of a document, False for a name."""
    return _UPLOAD_ID.fullmatch(text) is not None
