"""`ragq upload`, `ragq ls` and `ragq rm`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal

from ragq.calls import UploadOptions
from ragq.cli.command import EXIT_FAILED, EXIT_REFUSED, is_upload_id, members, with_client
from ragq.cli.complete import complete_document
from ragq.cli.output import Output, counted, one_line
from ragq.cli.progress import ProgressView
from ragq.client import Client
from ragq.errors import JobFailed, KeyRefused, NotFound, RateLimited, RequestRefused, ServerBusy, UploadFailed
from ragq.events import Progress
from ragq.models import Upload, UploadStatus

UNSUPPORTED = 415


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until questions find the documents.")
@click.option("--collection", "-c", help="Add the documents to this collection. A new name makes a collection.")
@click.option(
    "--on-duplicate", type=click.Choice(["skip", "replace", "keep"]), help="What to do with a file sent before."
)
@with_client
def upload(client: Client, output: Output, paths: tuple[Path, ...], *, wait: bool, **options: Any) -> int:
    """Send documents, and of folders all files that the server can read. Hidden files are left out."""
    given: UploadOptions = {}
    given.update({name: value for name, value in options.items() if value is not None})  # type: ignore[typeddict-item]
    with ProgressView(output, lines=wait) as view:
        sending = Sending(client, output, view, given, wait=wait)
        for file in find_files(paths):
            sending.send(file)
        if wait:
            sending.wait_for_all()
    return sending.finish()


@dataclass(frozen=True)
class FoundFile:
    """A file to send. `named`: the user named it, and not only a folder around it."""

    path: Path
    named: bool


def find_files(paths: tuple[Path, ...]) -> Iterator[FoundFile]:
    """Yield the files, and those in folders, in the order of their names. Links in folders are not followed."""
    for path in paths:
        if not path.is_dir():
            yield FoundFile(path, named=True)
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                file = Path(folder, name)
                if not name.startswith(".") and file.is_file() and not file.is_symlink():
                    yield FoundFile(file, named=False)


@dataclass
class Sending:
    """Sends files, one after the other, and then waits for them, while the server indexes several at once."""

    client: Client
    output: Output
    view: ProgressView
    options: UploadOptions
    wait: bool
    unfinished: list[tuple[Path, Upload]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def send(self, file: FoundFile) -> None:
        """Send a file. Raises RagqError for a failure that each other file would have, too."""
        stage = f"sending {file.path.name}"
        try:
            upload = self.client.upload(
                file.path, on_sent=lambda sent, total: self.view.show(stage, sent, total), **self.options
            )
        except OSError as error:
            self._fail(file.path, f"cannot be read: {error.strerror}")
        except (KeyRefused, NotFound, RateLimited, ServerBusy):
            raise
        except RequestRefused as error:
            if error.status == UNSUPPORTED and not file.named:
                self._skip(file.path, error)
            else:
                self._fail(file.path, error.detail, **members(error))
        else:
            if self.wait:
                self.unfinished.append((file.path, upload))
            else:
                self._report(file.path, upload)

    def wait_for_all(self) -> None:
        for path, upload in self.unfinished:
            try:
                self._report(path, replace(self._indexed(upload), duplicate=upload.duplicate))
            except UploadFailed as error:
                self._fail(path, error.upload.error or "could not be indexed", **members(error))

    def finish(self) -> int:
        """Print how many files there were. Return the exit status."""
        total = self.counts.total()
        if total != 1:
            each = ", ".join(f"{number} {what}" for what, number in self.counts.items())
            self.output.note(f"{counted(total, 'file')}: {each}" if total else "no file was found")
        return EXIT_FAILED if self.counts["failed"] or not total else 0

    def _indexed(self, upload: Upload) -> Upload:
        """Wait until a document is ready. Raises UploadFailed."""
        if upload.status == "ready":  # sent before
            return self.client.document(upload.upload_id)
        stage = f"indexing {upload.name}"
        self.view.show(stage)
        with suppress(JobFailed, NotFound):  # the upload says what became of it
            for event in self.client.watch(upload.job_id) if upload.job_id else ():
                if isinstance(event, Progress):
                    self.view.show(stage, event.done, event.total)
        return self.client.wait_for_upload(upload.upload_id)

    def _report(self, path: Path, upload: Upload) -> None:
        self.view.clear()
        self.counts[upload.status] += 1
        self.output.record({"path": str(path), **upload.raw, "duplicate": upload.duplicate})
        pages = "" if upload.pages is None else f", {counted(upload.pages, 'page')}"
        before = ", as sent before" if upload.duplicate else ""
        self.output.line(f"{path}: {upload.status}{pages}{before}")
        for warning in upload.warnings:
            self.output.note(f"  page {warning.get('page')}: {warning.get('reason')}")

    def _skip(self, path: Path, error: RequestRefused) -> None:
        self.view.clear()
        self.counts["skipped"] += 1
        self.output.record({"path": str(path), "status": "skipped", "detail": error.detail})
        self.output.note(f"{path}: skipped, {error.detail}")

    def _fail(self, path: Path, detail: str, **details: object) -> None:
        self.view.clear()
        self.counts["failed"] += 1
        self.output.record({"path": str(path), "status": "failed", "detail": detail, "error": details})
        self.output.note(f"{path}: failed: {detail}")


@click.command()
@click.option("--status", type=click.Choice(["queued", "processing", "ready", "failed"]), help="Only with this status.")
@click.option("--name", help="Only documents with this in their name.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="How many; 0 for all.")
@with_client
def ls(client: Client, output: Output, *, status: UploadStatus | None, name: str | None, limit: int) -> None:
    """List your documents, newest first."""
    found = list(islice(client.uploads(status=status, name=name), limit or None))
    for document in found:
        output.record(document.raw)
    rows = [(one.name, one.status, one.pages, decimal(one.bytes), one.created_at, one.upload_id) for one in found]
    output.table(("name", "status", "pages", "size", "sent", "id"), rows)


@click.command()
@click.argument("documents", nargs=-1, required=True, metavar="NAME|ID...", shell_complete=complete_document)
@with_client
def rm(client: Client, output: Output, documents: tuple[str, ...]) -> int:
    """Delete documents. No answer uses them from now on."""
    status = 0
    for document in documents:
        ids = [document] if is_upload_id(document) else _ids_named(client, document)
        if len(ids) != 1:
            detail = f"{len(ids)} documents have the name {document}: give an id, as `ragq ls` shows them"
            output.failure("NotFound", detail if ids else f"no document has the name {document}")
            status = EXIT_REFUSED
            continue
        deleted = client.delete(ids[0])
        output.record(deleted.raw)
        output.line(f"{one_line(deleted.name)}: deleted")
    return status


def _ids_named(client: Client, name: str) -> list[str]:
    return [upload.upload_id for upload in client.uploads(name=name) if upload.name == name]
