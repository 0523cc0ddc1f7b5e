"""The requests of both clients, and how their responses are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from ragq.errors import JobFailed, RequestRefused, UnexpectedResponse, refused
from ragq.models import Answer, Caller, Job, JobKind, JobStatus, ListedJob, Raw, Upload, UploadStatus
from ragq.retrying import retry_after_seconds

T = TypeVar("T")

# The service holds a request for at most 60 seconds; a proxy before it may end a silent request after 60.
LONGEST_WAIT_SECONDS = 30.0
# Jobs or documents in one response.
PAGE_LIMIT = 50
# Called with the bytes of a file that are sent, and its size.
OnSent = Callable[[int, int], object]


class QuestionOptions(TypedDict, total=False):
    """What a question may choose for itself. docs/answers.md of the service explains each option."""

    upload_id: str | Sequence[str]
    name: str | Sequence[str]
    collection: str
    first_page: int
    last_page: int
    k: int
    min_score: float
    model: str
    temperature: float
    max_tokens: int
    cache: bool
    priority: Literal["high", "normal", "low"]
    after_upload: bool
    conversation_id: str
    webhook_url: str
    metadata: Mapping[str, str]


class UploadOptions(TypedDict, total=False):
    """What to do with an uploaded file. docs/uploads.md of the service explains each option."""

    collection: str
    on_duplicate: Literal["skip", "replace", "keep"]
    webhook_url: str


class CountedFile:
    """A file that reports how much of it was read."""

    def __init__(self, file: BinaryIO, on_sent: OnSent) -> None:
        self._file = file
        self._on_sent = on_sent
        self._size = file.seek(0, os.SEEK_END)
        self._sent = 0

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._sent += len(part)
        self._on_sent(self._sent, self._size)
        return part

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._sent = 0
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@dataclass(frozen=True)
class OutgoingFile:
    """A file to send: a path, or an open file with a name."""

    source: Path | BinaryIO
    name: str
    on_sent: OnSent

    @contextmanager
    def form(self) -> Iterator[dict[str, Any] | None]:
        """Yield the form of a request that sends the file from its beginning."""
        if isinstance(self.source, Path):
            with self.source.open("rb") as file:
                yield {"file": (self.name, CountedFile(file, self.on_sent), "application/octet-stream")}
        else:
            yield {"file": (self.name, CountedFile(self.source, self.on_sent), "application/octet-stream")}


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request that may be made again without doing anything twice, and the reading of its response."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    file: OutgoingFile | None = None
    wait_seconds: float = 0.0

    @contextmanager
    def request(self, http: httpx.Client | httpx.AsyncClient, timeout: float) -> Iterator[httpx.Request]:
        """Yield a new request of the call. `timeout` is for a server that does not hold the request on purpose."""
        waits = httpx.Timeout(timeout, read=timeout + self.wait_seconds)
        form = self.file.form() if self.file else _no_form()
        with form as files:
            yield http.build_request(
                self.method,
                self.path,
                params={name: value for name, value in self.params.items() if value is not None},
                json=self.json,
                files=files,
                headers=self.headers,
                timeout=waits,
            )


@contextmanager
def _no_form() -> Iterator[dict[str, Any] | None]:
    yield None


def ask(query: str, options: QuestionOptions, idempotency_key: str | None) -> Call[str]:
    """Put a question on the queue; the result is the job's id."""
    body: dict[str, Any] = {"query": query, **{name: value for name, value in options.items() if value is not None}}
    body |= {name: list(body[name]) for name in ("upload_id", "name") if not isinstance(body.get(name), str | None)}
    return Call(
        "POST", "chat", lambda response: str(_body(response)["job_id"]), json=body, headers=_key(idempotency_key)
    )


def upload(file: OutgoingFile, options: UploadOptions, idempotency_key: str | None) -> Call[Upload]:
    return Call(
        "POST",
        "uploads",
        lambda response: Upload.of(_body(response)["uploads"][0]),
        params=options,
        headers=_key(idempotency_key),
        file=file,
    )


def result(job_id: str, wait_seconds: float = 0.0) -> Call[Answer | None]:
    """Read the answer of a job; None if the job has not ended after `wait_seconds`. Raises JobFailed."""
    params = {"wait": round(wait_seconds, 3)} if wait_seconds else {}
    return Call("GET", f"result/{_segment(job_id)}", _answer, params=params, wait_seconds=wait_seconds)


def job(job_id: str, wait_seconds: float = 0.0) -> Call[Job]:
    """Read the state of a job; with `wait_seconds`, once its status has changed."""
    params = {"wait": round(wait_seconds, 3)} if wait_seconds else {}
    path = f"job-status/{_segment(job_id)}"
    return Call("GET", path, lambda response: Job.of(_body(response)), params=params, wait_seconds=wait_seconds)


def cancel(job_id: str) -> Call[Job]:
    return Call("DELETE", f"jobs/{_segment(job_id)}", lambda response: Job.of(_body(response)))


def jobs_page(
    *, before: str | None, status: JobStatus | None, kind: JobKind | None
) -> Call[tuple[list[ListedJob], str | None]]:
    def read(response: httpx.Response) -> tuple[list[ListedJob], str | None]:
        body = _body(response)
        return [ListedJob.of(one) for one in body["jobs"]], body.get("next")

    return Call("GET", "jobs", read, params={"limit": PAGE_LIMIT, "before": before, "status": status, "kind": kind})


def uploads_page(
    *, cursor: str | None, status: UploadStatus | None, name: str | None
) -> Call[tuple[list[Upload], str | None]]:
    def read(response: httpx.Response) -> tuple[list[Upload], str | None]:
        body = _body(response)
        return [Upload.of(one) for one in body["uploads"]], body.get("next")

    return Call("GET", "uploads", read, params={"limit": PAGE_LIMIT, "cursor": cursor, "status": status, "name": name})


def upload_state(upload_id: str) -> Call[Upload]:
    return Call("GET", f"uploads/{_segment(upload_id)}", lambda response: Upload.of(_body(response)))


def delete_upload(upload_id: str) -> Call[Upload]:
    return Call("DELETE", f"uploads/{_segment(upload_id)}", lambda response: Upload.of(_body(response)))


def me() -> Call[Caller]:
    return Call("GET", "me", lambda response: Caller.of(_body(response)))


def events_path(job_id: str) -> str:
    return f"jobs/{_segment(job_id)}/events"


def _key(idempotency_key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": idempotency_key or str(uuid4())}


def _segment(text: str) -> str:
    return quote(text, safe="")


def _answer(response: httpx.Response) -> Answer | None:
    body = _body(response)
    if response.status_code == httpx.codes.ACCEPTED:
        return None
    if body["status"] != "completed":
        raise JobFailed(str(body.get("error")), job_id=str(body["job_id"]), status=str(body["status"]))
    return Answer.of(body)


def _body(response: httpx.Response) -> Raw:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise UnexpectedResponse(f"{response.url} is not this service: it did not answer with a JSON object")
    return body


def read_response(call: Call[T], response: httpx.Response) -> T:
    """Return what a response says. Raises RequestRefused and UnexpectedResponse."""
    if not response.is_success:
        raise refusal(response)
    try:
        return call.read(response)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UnexpectedResponse(f"{response.url} answered otherwise than this service does ({error!r})") from error


def refusal(response: httpx.Response) -> RequestRefused | UnexpectedResponse:
    """Return the error of a response that is not a success. The response is read."""
    if response.is_redirect:
        return UnexpectedResponse(f"the server is at another address: {response.headers.get('location')}")
    try:
        problem = response.json()
    except ValueError:
        problem = None
    problem = problem if isinstance(problem, dict) else {}
    title = str(problem.get("title") or response.reason_phrase)
    return refused(
        response.status_code,
        str(problem.get("detail") or f"the server answered with status {response.status_code} {title}"),
        title=title,
        retry_after_seconds=retry_after_seconds(response.headers.get("retry-after")),
        raw=problem,
    )
