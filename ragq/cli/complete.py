"""What a shell offers after Tab: jobs and documents. A server that does not answer offers nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import click
from click.shell_completion import CompletionItem

from ragq.cli.output import one_line
from ragq.client import Client
from ragq.errors import RagqError

SECONDS = 2.0
OFFERED = 50


def complete_job(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return recent jobs, each with its question or document."""
    return _offered(begun, lambda client: ((job.job_id, job.query or job.name or job.kind) for job in client.jobs()))


def complete_document(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return documents by their names."""
    return _offered(begun, lambda client: ((upload.name, upload.status) for upload in client.uploads()))


def _offered(begun: str, list_all: Callable[[Client], Iterable[tuple[str, str]]]) -> list[CompletionItem]:
    try:
        with Client(timeout=SECONDS, retry_seconds=0) as client:
            newest = list(islice(list_all(client), OFFERED))
    except RagqError:
        return []
    return [CompletionItem(value, help=one_line(about)) for value, about in newest if value.startswith(begun)]
