"""Following a job until its answer is printed: for `ragq ask` and `ragq watch`."""

from __future__ import annotations

import re

from ragq.cli.command import EXIT_NOT_ANSWERED
from ragq.cli.output import Output, one_line
from ragq.cli.progress import ProgressView
from ragq.client import Client
from ragq.errors import UnexpectedResponse
from ragq.events import Event, Finished, Progress, Queued, Started, Token
from ragq.models import Answer, Source

LONGEST_QUOTE_CHARS = 300
# Labels that say themselves where a part of a document is, such as "Slide 4".
_PLACE = re.compile(r"(Sheet|Slide|Rows|Section|Records|File|Message) ")


class Follower:
    """Prints what happens to a job.

    `stream`: also the answer as it is written. `lines`: a line for each stage where there is no terminal.
    """

    def __init__(self, output: Output, *, stream: bool, lines: bool = False) -> None:
        self._output = output
        self._stream = stream
        self._view = ProgressView(output, lines=lines)
        self._written = ""

    def follow(self, client: Client, job_id: str) -> Answer:
        """Follow a job to its end and print the answer. Raises RagqError, such as JobFailed."""
        events = client.watch(job_id)
        with self._view:
            for event in events:
                if self._stream:
                    self._output.record({"id": event.id, "event": event.type, "data": event.raw})
                self._show(event)
        if events.answer is None:
            raise UnexpectedResponse(f"the events of job {job_id} ended without an answer")
        self._print_text(events.answer)
        if not self._stream:
            self._output.record(events.answer.raw)
        print_sources(self._output, events.answer)
        return events.answer

    def _show(self, event: Event) -> None:
        match event:
            case Queued(position=position):
                self._view.show("waiting" if position is None else f"waiting, number {position} in the queue")
            case Started():
                self._view.show("started")
                self._begin_again()
            case Progress(stage=stage, done=done, total=total):
                if not self._written:
                    self._view.show(stage, done, total)
            case Token(text=text) if self._stream:
                self._view.clear()
                self._output.text(text)
                self._written += text
            case Finished():
                self._view.clear()

    def _begin_again(self) -> None:
        if self._written:
            self._output.line("\n\nThe answer begins again:\n")
        self._written = ""

    def _print_text(self, answer: Answer) -> None:
        """Print what is not written yet. The checked text differs from what was written if citations were removed."""
        if self._written == answer.text:
            self._output.line()
            return
        if self._written:
            self._output.line("\n\nThe answer after the check of its citations:\n")
        self._output.line(answer.text)


def print_sources(output: Output, answer: Answer) -> None:
    for source in answer.sources:
        output.line(f"\n[{source.n}] {one_line(source.name)}, {page_name(source)}")
        output.line(f"    {quoted(source)}")
    if answer.incomplete:
        output.note("\nThe answer is cut: the model reached its limit of tokens.")
    if answer.not_searched:
        output.note(f"\nNot searched yet: {answer.not_searched} of your documents.")


def page_name(source: Source) -> str:
    """Return "page 4", "page iv (page 6 of the file)", or the label of a part of a file without pages."""
    label = one_line(source.page_label)
    if _PLACE.match(label):
        return label
    if not label or label.lstrip("0") == str(source.page):
        return f"page {source.page}"
    return f"page {label} (page {source.page} of the file)"


def quoted(source: Source) -> str:
    """Return the sentence of the quote that fits best, or the beginning of the quote, in quotation marks."""
    text = one_line(source.quote[slice(*source.highlight)] if source.highlight else source.quote)
    return f"“{text}”" if len(text) <= LONGEST_QUOTE_CHARS else f"“{text[:LONGEST_QUOTE_CHARS].rsplit(' ', 1)[0]} …”"


def status_of(answer: Answer) -> int:
    """Return the exit status for an answer."""
    return 0 if answer.answered else EXIT_NOT_ANSWERED
