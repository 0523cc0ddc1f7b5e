"""`ragq watch`, `ragq jobs` and `ragq cancel`."""

from __future__ import annotations

from itertools import islice

import click

from ragq.cli import last
from ragq.cli.command import EXIT_INTERRUPTED, EXIT_USAGE, with_client
from ragq.cli.complete import complete_job
from ragq.cli.follow import Follower, status_of
from ragq.cli.output import Output
from ragq.client import Client
from ragq.models import JobKind, JobStatus

NOTHING_ASKED = "nothing was asked yet: ask with `ragq ask`, or name a job"


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False, shell_complete=complete_job)
@click.option("--stream/--no-stream", default=True, help="Print the answer as it is written; with --json, each event.")
@with_client
def watch(client: Client, output: Output, job_id: str | None, *, stream: bool) -> int:
    """Follow a job, or the last question, and print its answer. With `--json`: its events, one a line."""
    kept = last.load()
    job_id = job_id or (kept.job_id if kept else None)
    if job_id is None:
        output.failure("NoQuestion", NOTHING_ASKED)
        return EXIT_USAGE
    try:
        answer = Follower(output, stream=stream, lines=True).follow(client, job_id)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if answer.sources:
        last.save(last.LastQuestion(client.url, job_id, last.pages_of(answer.sources)))
    return status_of(answer)


@click.command()
@click.option(
    "--status",
    type=click.Choice(["queued", "started", "finished", "failed", "cancelled"]),
    help="Only with this status.",
)
@click.option("--kind", type=click.Choice(["chat", "document", "webhook"]), help="Only of this kind.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0 for all.")
@with_client
def jobs(client: Client, output: Output, *, status: JobStatus | None, kind: JobKind | None, limit: int) -> None:
    """List your jobs, newest first."""
    found = list(islice(client.jobs(status=status, kind=kind), limit or None))
    for job in found:
        output.record(job.raw)
    rows = [(job.status, job.kind, job.created_at, job.query or job.name, job.job_id) for job in found]
    output.table(("status", "kind", "since", "about", "id"), rows)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...", shell_complete=complete_job)
@with_client
def cancel(client: Client, output: Output, job_ids: tuple[str, ...]) -> None:
    """Cancel jobs. A queued job never runs, a started one is stopped, one that has ended stays as it is."""
    for job_id in job_ids:
        job = client.cancel(job_id)
        output.record(job.raw)
        output.line(f"{job_id}: {job.status}" + ("" if job.status == "cancelled" else ", before it was cancelled"))
