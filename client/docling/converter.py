"""Conversions by a docling-serve, through its asynchronous API: submit a file, wait for the task, fetch its result.

Each request is bounded, each conversion too, and both end with the job. A service that is away is asked again after a
wait; after several conversions without an answer none is tried for a while, so that a folder of scans does not wait
for each page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson

from client.llm.deadline import current_deadline
from errors import DocumentError
from rag.ingest.formats.docling import CONVERSION_FAILED, DoclingPage, docling_pages

if TYPE_CHECKING:
    from httpx2 import Response

    from settings import Settings

# A file that is larger is not sent.
MAX_FILE_BYTES = 100 * 1024 * 1024
# What a conversion may return. A page of 800 words with the places of its parts has 40 KB.
MAX_RESULT_BYTES = 32 * 1024 * 1024
# A page takes docling a second on a good GPU, and a minute on a slow CPU with others before it.
CONVERSION_SECONDS = 600.0
CALL_SECONDS = 60.0
# The service holds a poll for this long.
POLL_SECONDS = 5
RETRY_SECONDS = (1.0, 5.0)
LONGEST_WAIT_SECONDS = 30.0
# After so many conversions in a row that the service did not answer, none is tried for the pause.
FAILURES, PAUSE_SECONDS = 3, 60.0
_UNDER_WAY: Final = ("pending", "started")
_DONE: Final = ("success", "partial_success")
_MAX_MESSAGE_CHARS = 200
_OPTIONS: Final = {
    "to_formats": "json",
    "image_export_mode": "placeholder",
    "include_images": "false",
    "do_ocr": "true",
    "abort_on_error": "false",
}


class _Unavailable(Exception):
    """The service does not answer now. `retry_after` is the wait that it asks for."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class DoclingConverter:
    """Converts files. Safe for threads and forks."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"X-Api-Key": key} if key else {}
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._paused_until = 0.0

    def convert(self, data: bytes, name: str) -> list[DoclingPage]:
        """Return the pages of a file. Raises DocumentError `conversion_failed`, and what Deadline.check raises."""
        if len(data) > MAX_FILE_BYTES:
            raise _failed(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
        if self._clock() < self._paused_until:
            raise _failed("it did not answer, and is not asked again for a minute")
        try:
            result = self._tried(data, name)
        except _Unavailable as error:
            self._count_failure()
            raise _failed(str(error)) from None
        self._failures = 0
        return docling_pages(_document(result))

    def _tried(self, data: bytes, name: str) -> Mapping[str, Any]:
        """Return the result of a conversion, tried again while the service does not answer. Raises _Unavailable."""
        for wait in self._retry_seconds:
            try:
                return self._convert(data, name)
            except _Unavailable as error:
                current_deadline().sleep(min(max(wait, error.retry_after), LONGEST_WAIT_SECONDS))
        return self._convert(data, name)

    def _count_failure(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES:
                self._paused_until = self._clock() + PAUSE_SECONDS

    def _convert(self, data: bytes, name: str) -> Mapping[str, Any]:
        from client.llm.sync_http import call_within

        with call_within(CONVERSION_SECONDS):
            task = self._call("POST", "/v1/convert/file/async", files={"files": (name, data)}, data=_OPTIONS)
            ends = self._clock() + CONVERSION_SECONDS
            while task.get("task_status") in _UNDER_WAY:
                if self._clock() >= ends:
                    raise _Unavailable(f"the conversion takes longer than {CONVERSION_SECONDS:.0f} s")
                current_deadline().check()
                task = self._call("GET", f"/v1/status/poll/{_id(task)}", params={"wait": POLL_SECONDS})
            if task.get("task_status") not in _DONE:
                raise _failed(_message(task))
            return self._call("GET", f"/v1/result/{_id(task)}")

    def _call(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        """Return the JSON object that the service answers. Raises _Unavailable, DocumentError."""
        from client.llm.sync_http import http_client

        with (
            _connection_errors(),
            http_client().stream(
                method, self._url + path, headers=self._headers, timeout=CALL_SECONDS, follow_redirects=False, **options
            ) as response,
        ):
            body = _body(response)
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response, of_task=method == "GET")
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise _failed("its answer is no JSON object: check DOCUMENT_CONVERTER_URL")
        return answer


def make_converter(settings: Settings) -> DoclingConverter | None:
    """Make the converter, or return None when DOCUMENT_CONVERTER_URL is not set."""
    if settings.document_converter_url is None:
        return None
    key = settings.document_converter_api_key
    return DoclingConverter(settings.document_converter_url, key.get_secret_value() if key else None)


@contextmanager
def _connection_errors() -> Iterator[None]:
    from httpx2 import TimeoutException, TransportError

    try:
        yield
    except TimeoutException:
        current_deadline().check()
        raise _Unavailable("it did not answer in time") from None
    except TransportError:
        current_deadline().check()
        raise _Unavailable("it cannot be reached: check DOCUMENT_CONVERTER_URL") from None


def _body(response: Response) -> bytes:
    data = bytearray()
    for part in response.iter_bytes():
        data += part
        if len(data) > MAX_RESULT_BYTES:
            raise _failed(f"its result is larger than {MAX_RESULT_BYTES >> 20} MiB")
    return bytes(data)


def _refusal(response: Response, *, of_task: bool) -> Exception:
    """Return the error for a status other than 200. A task is unknown to a service that was started again."""
    status = response.status_code
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _failed("it rejected DOCUMENT_CONVERTER_API_KEY: check the key")
    passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *([HTTPStatus.NOT_FOUND] if of_task else [])}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in passing:
        wait = response.headers.get("Retry-After", "")
        return _Unavailable(f"it answered {status}", float(wait) if wait.isascii() and wait.isdigit() else 0.0)
    return _failed(f"it answered {status}: check DOCUMENT_CONVERTER_URL, and the limits of the service")


def _id(task: Mapping[str, Any]) -> str:
    task_id = task.get("task_id")
    if not isinstance(task_id, str) or not task_id.replace("-", "").isalnum():
        raise _failed("its answer names no task: check DOCUMENT_CONVERTER_URL")
    return task_id


def _document(result: Mapping[str, Any]) -> Mapping[str, Any]:
    document = result.get("document")
    content = document.get("json_content") if isinstance(document, dict) else None
    if result.get("status") not in _DONE or not isinstance(content, dict):
        raise _failed(_message(result))
    return content


def _message(answer: Mapping[str, Any]) -> str:
    """Return what the service says of a failure."""
    failure = answer.get("failure")
    said = failure.get("message") if isinstance(failure, dict) else answer.get("error_message")
    errors = answer.get("errors")
    if not said and isinstance(errors, list) and errors and isinstance(errors[0], dict):
        said = errors[0].get("error_message")
    return f"it could not convert the file ({' '.join(str(said or 'no reason given').split())[:_MAX_MESSAGE_CHARS]})"


def _failed(why: str) -> DocumentError:
    return DocumentError(CONVERSION_FAILED, f"the service of DOCUMENT_CONVERTER_URL: {why}")
