"""The client for programs that block."""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO, Literal, Self, TypeVar, Unpack, overload

import httpx
from httpx_sse import EventSource

from ragq import calls
from ragq.base import ClientBase, Deadline, outgoing, ready
from ragq.calls import Call, OnSent, QuestionOptions, UploadOptions
from ragq.errors import NotFound, RequestRefused
from ragq.events import Event
from ragq.models import Answer, Caller, Job, JobKind, JobStatus, ListedJob, Upload, UploadStatus
from ragq.streams import JobReader

T = TypeVar("T")


class EventStream:
    """The events of a job, to be iterated once. Raises JobFailed after the event of a job that ends without a result.

    `text` is the answer as far as it is written; `answer` is set once the job has finished.
    """

    def __init__(self, reader: JobReader, events: Generator[Event]) -> None:
        self._reader = reader
        self._events = events

    @property
    def job_id(self) -> str:
        return self._reader.job_id

    @property
    def text(self) -> str:
        return self._reader.text

    @property
    def answer(self) -> Answer | None:
        return self._reader.answer

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def close(self) -> None:
        """End the stream. The job goes on."""
        self._events.close()


class Client(ClientBase):
    """A client of one server, for use in a `with` block. Threads may share it.

    Without a `url` or a key: RAGQ_URL and RAGQ_API_KEY, then the config file of `ragq login`, then a server on this
    machine. A request that meets a cut connection, a busy server or a limit is made again for `retry_seconds`; none is
    done twice. `timeout` is for the server's answer to one attempt, in seconds. Every method raises RagqError.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry_seconds: float = 30.0,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        super().__init__(url, api_key, timeout=timeout, retry_seconds=retry_seconds)
        self._http = httpx.Client(base_url=self.url, headers=self._headers, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @overload
    def ask(
        self,
        query: str,
        *,
        stream: Literal[False] = False,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Answer: ...

    @overload
    def ask(
        self,
        query: str,
        *,
        stream: Literal[True],
        idempotency_key: str | None = None,
        **options: Unpack[QuestionOptions],
    ) -> EventStream: ...

    def ask(
        self,
        query: str,
        *,
        stream: bool = False,
        wait_seconds: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Answer | EventStream:
        """Ask a question. Return its answer; with `stream`, its events as they happen.

        Raises JobFailed, and NotFinished after `wait_seconds`: the job then goes on. A repeated call with the same
        `idempotency_key` gives the same job.
        """
        job_id = self.submit(query, idempotency_key=idempotency_key, **options)
        return self.watch(job_id) if stream else self.result(job_id, wait_seconds=wait_seconds)

    def submit(self, query: str, *, idempotency_key: str | None = None, **options: Unpack[QuestionOptions]) -> str:
        """Put a question on the queue. Return the id of its job at once."""
        return self._send(calls.ask(query, options, idempotency_key))

    def result(self, job_id: str, *, wait_seconds: float | None = None) -> Answer:
        """Wait for the answer of a job. Raises JobFailed, and NotFinished after `wait_seconds`."""
        deadline = Deadline(wait_seconds)
        while (answer := self._send(calls.result(job_id, deadline.next_wait(job_id)))) is None:
            time.sleep(deadline.pause())
        return answer

    def watch(self, job_id: str, *, last_event_id: str | None = None) -> EventStream:
        """Return the events of a job, from its start or after an event, until it ends."""
        reader = JobReader(job_id, last_event_id)
        return EventStream(reader, self._follow(reader))

    def job(self, job_id: str) -> Job:
        """Return the state of a job."""
        return self._send(calls.job(job_id))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. A job that has ended stays as it is."""
        return self._send(calls.cancel(job_id))

    def jobs(self, *, status: JobStatus | None = None, kind: JobKind | None = None) -> Iterator[ListedJob]:
        """Yield your jobs, newest first."""
        before: str | None = None
        while True:
            page, before = self._send(calls.jobs_page(before=before, status=status, kind=kind))
            yield from page
            if before is None:
                return

    def upload(
        self,
        file: str | Path | BinaryIO,
        *,
        name: str | None = None,
        wait: bool = False,
        on_sent: OnSent | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[UploadOptions],
    ) -> Upload:
        """Send a file, a path or one that is open, to be indexed. With `wait`, return once questions find it.

        `on_sent` is called with the bytes sent and the size. Raises UploadFailed with `wait`.
        """
        sent = self._send(calls.upload(outgoing(file, name, on_sent), options, idempotency_key))
        return self.wait_for_upload(sent.upload_id) if wait else sent

    def wait_for_upload(self, upload_id: str, *, wait_seconds: float | None = None) -> Upload:
        """Wait until a document is ready. Raises UploadFailed, and NotFinished after `wait_seconds`."""
        deadline = Deadline(wait_seconds)
        while not ready(upload := self.document(upload_id)):
            job_id = upload.job_id or ""
            wait = deadline.next_wait(job_id)
            with suppress(NotFound):  # another job may have replaced this one
                self._send(calls.job(job_id, wait))
            time.sleep(deadline.pause())
        return upload

    def uploads(self, *, status: UploadStatus | None = None, name: str | None = None) -> Iterator[Upload]:
        """Yield your documents, newest first. `name` is a part of their name."""
        cursor: str | None = None
        while True:
            page, cursor = self._send(calls.uploads_page(cursor=cursor, status=status, name=name))
            yield from page
            if cursor is None:
                return

    def document(self, upload_id: str) -> Upload:
        """Return the state of a document."""
        return self._send(calls.upload_state(upload_id))

    def delete(self, upload_id: str) -> Upload:
        """Delete a document. No answer uses it from now on."""
        return self._send(calls.delete_upload(upload_id))

    def me(self) -> Caller:
        """Return who the server takes you for."""
        return self._send(calls.me())

    def _send(self, call: Call[T]) -> T:
        attempts = self._attempts()
        while True:
            try:
                with call.request(self._http, self._timeout) as request:
                    response = self._http.send(request)
                self._server.reached = True
                return calls.read_response(call, response)
            except (httpx.TransportError, RequestRefused) as error:
                time.sleep(attempts.next_delay(error))

    def _follow(self, reader: JobReader) -> Generator[Event]:
        attempts = self._attempts()
        while not reader.ended:
            cut: httpx.TransportError | RequestRefused | None = None
            try:
                with closing(self._stream(reader)) as events:
                    for event in events:
                        attempts.restart()
                        yield event
            except (httpx.TransportError, RequestRefused) as error:
                cut = error
            if not reader.ended:
                time.sleep(attempts.next_delay(cut))
        reader.raise_if_failed()

    def _stream(self, reader: JobReader) -> Generator[Event]:
        """Yield the events of one connection."""
        request = reader.request(self._http, self._timeout)
        with closing(self._http.send(request, stream=True)) as response:
            self._server.reached = True
            if not response.is_success:
                response.read()
            reader.check(response)
            if reader.ended:
                return
            for sent in EventSource(response).iter_sse():
                event = reader.take(sent)
                if event is not None:
                    yield event
                if reader.ended:
                    return
