"""The errors of the package. Each says what happened; where the service answered, in the service's own sentence.

RagqError
├── ConfigError           a URL, a key or the config file is wrong: nothing was sent
├── ServerUnreachable     no response came
├── RequestRefused        the service refused a request; `status` is that of HTTP
│   ├── KeyRefused        401, 403
│   ├── NotFound          404, 410
│   ├── TooLarge          413
│   ├── RateLimited       429; `retry_after_seconds` says when to try again
│   └── ServerBusy        502, 503, 504
├── UnexpectedResponse    the response is not one of this service
├── JobFailed             the job failed or was cancelled
├── UploadFailed          the document could not be indexed
└── NotFinished           the time to wait was over before the job ended
"""

from __future__ import annotations

from ragq.models import Raw, Upload


class RagqError(Exception):
    """A failure with a sentence in `detail`."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ConfigError(RagqError):
    """A URL, a key or the config file is wrong."""


class ServerUnreachable(RagqError):
    """No response came from the server."""


class UnexpectedResponse(RagqError):
    """The response is not one of this service."""


class RequestRefused(RagqError):
    """The service refused a request. `errors` names the wrong fields of a 422."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        title: str = "",
        retry_after_seconds: float | None = None,
        raw: Raw | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.retry_after_seconds = retry_after_seconds
        self.raw = raw or {}


class KeyRefused(RequestRefused):
    """The key is missing, wrong, or lacks the scope."""


class NotFound(RequestRefused):
    """There is no such job, document or collection, or no longer."""


class TooLarge(RequestRefused):
    """The request is larger than the service takes."""


class RateLimited(RequestRefused):
    """A limit of the caller is reached; it passes with time."""


class ServerBusy(RequestRefused):
    """The service, or a part of it, does not work at the moment."""


_BY_STATUS: dict[int, type[RequestRefused]] = {
    401: KeyRefused,
    403: KeyRefused,
    404: NotFound,
    410: NotFound,
    413: TooLarge,
    429: RateLimited,
    502: ServerBusy,
    503: ServerBusy,
    504: ServerBusy,
}


def refused(status: int, detail: str, *, title: str, retry_after_seconds: float | None, raw: Raw) -> RequestRefused:
    """Return the error of a refused request."""
    kind = _BY_STATUS.get(status, RequestRefused)
    return kind(detail, status=status, title=title, retry_after_seconds=retry_after_seconds, raw=raw)


class JobFailed(RagqError):
    """The job failed, or was cancelled: `status` says which."""

    def __init__(self, detail: str, *, job_id: str, status: str) -> None:
        super().__init__(detail)
        self.job_id = job_id
        self.status = status


class UploadFailed(RagqError):
    """The document could not be indexed: `upload.reason` says why, for programs."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(f"{upload.name}: {upload.error or upload.reason or 'could not be indexed'}")
        self.upload = upload


class NotFinished(RagqError):
    """The time to wait was over before the job ended. The job goes on."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} has not ended yet; it goes on")
        self.job_id = job_id
