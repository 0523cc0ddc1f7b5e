"""`ragq ask` and `ragq open`."""

from __future__ import annotations

import re
import sys
import webbrowser
from typing import Any

import click

from ragq.calls import QuestionOptions
from ragq.cli import last
from ragq.cli.command import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, is_upload_id, with_client
from ragq.cli.complete import complete_document, complete_job
from ragq.cli.follow import Follower, status_of
from ragq.cli.output import Output
from ragq.client import Client

_PAGES = re.compile(r"(\d+)?(-)?(\d+)?")


class PageRange(click.ParamType[tuple[int | None, int | None]]):
    """Pages as in `4`, `4-9`, `4-` and `-9`."""

    name = "pages"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        match = _PAGES.fullmatch(str(value))
        if not match or not (match[1] or match[3]):
            self.fail("must be a page or a range, such as 4 or 4-9", param, ctx)
        first, dash, final = match[1], match[2], match[3]
        return int(first) if first else None, int(final) if final else (None if dash else int(first))


@click.command()
@click.argument("question", nargs=-1, required=True)
@click.option("--stream", is_flag=True, help="Print the answer as it is written.")
@click.option(
    "--document",
    "-d",
    "documents",
    multiple=True,
    metavar="NAME|ID",
    shell_complete=complete_document,
    help="Search only this document; may be given again.",
)
@click.option("--collection", "-c", help="Search only this collection.")
@click.option("--pages", type=PageRange(), metavar="N[-N]", help="Search only these pages.")
@click.option("--model", help="The chat model, one of those of the server.")
@click.option("-k", type=int, help="The largest number of passages that the answer may use.")
@click.option("--conversation", metavar="NAME", help="Understand the question in the light of earlier ones.")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]), help="The place in the queue.")
@click.option("--no-cache", is_flag=True, help="Do not use an earlier answer to the same question.")
@with_client
def ask(client: Client, output: Output, question: tuple[str, ...], *, stream: bool, **options: Any) -> int:
    """Ask a question and print the answer with its sources. `-` reads the question from standard input."""
    text = sys.stdin.read() if question == ("-",) else " ".join(question)
    job_id = client.submit(text, **question_options(**options))
    last.save(last.LastQuestion(client.url, job_id))
    try:
        answer = Follower(output, stream=stream).follow(client, job_id)
    except KeyboardInterrupt:
        output.note(f"\nThe job goes on: `ragq watch` waits for it, `ragq cancel {job_id}` ends it.")
        return EXIT_INTERRUPTED
    last.save(last.LastQuestion(client.url, job_id, last.pages_of(answer.sources)))
    if answer.sources and output.is_live:
        output.note(f"\n`ragq open {answer.sources[0].n}` shows the page.")
    return status_of(answer)


def question_options(
    *,
    documents: tuple[str, ...],
    collection: str | None,
    pages: tuple[int | None, int | None] | None,
    model: str | None,
    k: int | None,
    conversation: str | None,
    priority: Any,
    no_cache: bool,
) -> QuestionOptions:
    """Return the options of the request: those that were given."""
    ids = [one for one in documents if is_upload_id(one)]
    if ids and len(ids) < len(documents):
        raise click.UsageError("give the documents either by their names or by their ids")
    given: dict[str, Any] = {
        "upload_id" if ids else "name": list(documents),
        "collection": collection,
        "first_page": pages[0] if pages else None,
        "last_page": pages[1] if pages else None,
        "model": model,
        "k": k,
        "conversation_id": conversation,
        "priority": priority,
        "cache": False if no_cache else None,
    }
    options: QuestionOptions = {}
    options.update({name: value for name, value in given.items() if value not in (None, [])})  # type: ignore[typeddict-item]
    return options


@click.command("open")
@click.argument("n", type=int)
@click.option(
    "--job", "job_id", metavar="JOB", shell_complete=complete_job, help="Another job than that of the last question."
)
@click.option("--print", "only_print", is_flag=True, help="Print the address, and open nothing.")
@with_client
def open_source(client: Client, output: Output, n: int, *, job_id: str | None, only_print: bool) -> int:
    """Open the page that source N of the last answer comes from, in the browser."""
    if job_id is not None:
        question = last.LastQuestion(client.url, job_id, last.pages_of(client.result(job_id).sources))
    elif (kept := last.load()) is None:
        output.failure("NoQuestion", "nothing was asked yet: ask with `ragq ask`, or name a job with --job")
        return EXIT_USAGE
    else:
        question = kept
        if not kept.pages:  # asked, but interrupted before the end
            question = last.LastQuestion(kept.url, kept.job_id, last.pages_of(client.result(kept.job_id).sources))
    address = question.address(n)
    if address is None:
        numbers = ", ".join(str(page.n) for page in question.pages)
        output.failure(
            "NoSource",
            f"the answer has no source {n}: " + (f"its sources are {numbers}" if numbers else "it cites nothing"),
        )
        return EXIT_FAILED
    opened = not only_print and _open(address)
    output.record({"url": address, "opened": opened})
    output.line(address)
    return 0


def _open(address: str) -> bool:
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
