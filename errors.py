"""The errors users see. Each knows its HTTP status, a short title, and what to do in its detail.

AppError
├── SettingsError              a setting makes no sense: the start stops
├── RequestError
│   ├── Unauthenticated        401
│   ├── Forbidden              403, the key does not allow it
│   ├── TooManyRequests        429, a limit of the caller's is reached
│   ├── InvalidRequest         422
│   ├── IdempotencyConflict    422
│   ├── PayloadTooLarge        413
│   ├── RequestTimedOut        408
│   ├── JobNotFound            404
│   ├── BatchNotFound          404
│   ├── JobExpired             410
│   ├── UploadNotFound         404
│   ├── WebhookNotFound        404, no such endpoint or delivery
│   ├── WebhookConflict        409, what is asked of an endpoint cannot be now
│   ├── WebhookUrlRefused      422, a webhook may not go there
│   ├── TooManyJobs            429, as many jobs of the user wait as may
│   └── UploadNotReady         409, a question names an upload that cannot be searched yet
├── StreamEnded                204, there is nothing after the last event
├── QueueUnavailable           503, Valkey does not answer or refuses writes
├── IdentityUnavailable        503, the public keys of the identity provider
├── UploadsUnavailable         503, the database with the list of uploads
├── FilesUnavailable           503, the file store
│   └── FileMissing            a file that should be there
├── UploadGone                 an upload was deleted, or taken over, while a job worked on it
├── JobTimedOut                the job ran into its time limit
├── JobStopped                 the job was taken from this worker
│   └── JobCancelled           somebody cancelled the job
├── StoreError                 the vector store
│   ├── NothingIndexed         there is no collection yet
│   ├── StoreInUse             another long-lived process owns the embedded store
│   └── StoreUnavailable       it does not answer
├── ProviderError              the model provider
│   ├── ProviderKeyRejected
│   ├── ModelNotFound
│   ├── ProviderRateLimited
│   ├── ProviderTimeout
│   └── ProviderUnavailable
└── DocumentError              a file that cannot be indexed, with a `reason`
    └── UnsupportedFile        415
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class AppError(Exception):
    """A failure with a sentence for the user. The sentence never holds a secret or a stack trace."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class SettingsError(AppError):
    title = "Wrong setting"


class RequestError(AppError):
    status = 400
    title = "Bad request"


class Unauthenticated(RequestError):
    status = 401
    title = "Authentication required"


class TooManyRequests(RequestError):
    """A limit that passes with time. `headers` go with the answer."""

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_seconds: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.headers = dict(headers or {})


def rate_limit_headers(name: str, policy: str, *, left: int, seconds: int) -> dict[str, str]:
    """Return the RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10): `left` for so many seconds."""
    return {"RateLimit-Policy": f'"{name}";{policy}', "RateLimit": f'"{name}";r={left};t={seconds}'}


class Forbidden(RequestError):
    status = 403
    title = "Not allowed"


class InvalidRequest(RequestError):
    """A request that does not validate; `problems` pairs a field with what is wrong with it."""

    status = 422
    title = "Invalid request"

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))
        self.problems = problems


class IdempotencyConflict(RequestError):
    status = 422
    title = "Idempotency-Key used before"


class PayloadTooLarge(RequestError):
    status = 413
    title = "Payload too large"


class RequestTimedOut(RequestError):
    status = 408
    title = "Request timed out"


class JobNotFound(RequestError):
    status = 404
    title = "Job not found"


class BatchNotFound(RequestError):
    status = 404
    title = "Batch not found"


class JobExpired(RequestError):
    status = 410
    title = "Job expired"


class UploadNotFound(RequestError):
    status = 404
    title = "Upload not found"


class UploadNotReady(RequestError):
    status = 409
    title = "Upload not ready"


class WebhookNotFound(RequestError):
    status = 404
    title = "Webhook not found"


class WebhookConflict(RequestError):
    status = 409
    title = "Webhook conflict"


class WebhookUrlRefused(RequestError):
    """A URL that no webhook is sent to. The detail goes on after a field's name: "must start with https://"."""

    status = 422
    title = "Webhook URL refused"


class TooManyJobs(TooManyRequests):
    title = "Too many jobs waiting"


class StreamEnded(AppError):
    status = 204
    title = "Nothing more"


class QueueUnavailable(AppError):
    status = 503
    title = "Queue unavailable"


class IdentityUnavailable(AppError):
    status = 503
    title = "Identity provider unavailable"


class UploadsUnavailable(AppError):
    status = 503
    title = "List of uploads unavailable"


class FilesUnavailable(AppError):
    status = 503
    title = "File store unavailable"


class FileMissing(FilesUnavailable):
    status = 404
    title = "File missing"


class UploadGone(AppError):
    status = 409
    title = "Upload gone"


class JobTimedOut(AppError):
    title = "Job timed out"


class JobStopped(AppError):
    title = "Job stopped"


class JobCancelled(JobStopped):
    title = "Job cancelled"


class StoreError(AppError):
    status = 503
    title = "Vector store error"


class NothingIndexed(StoreError):
    title = "Nothing indexed"


class StoreInUse(StoreError):
    title = "Vector store in use"


class StoreUnavailable(StoreError):
    title = "Vector store unavailable"


class ProviderError(AppError):
    status = 502
    title = "Model provider error"


class ProviderKeyRejected(ProviderError):
    title = "Model provider rejected the key"


class ModelNotFound(ProviderError):
    title = "Model not found"


class ProviderRateLimited(ProviderError):
    title = "Model provider rate limit"


class ProviderTimeout(ProviderError):
    title = "Model provider timed out"


class ProviderUnavailable(ProviderError):
    title = "Model provider unavailable"


class DocumentError(AppError):
    """A file that cannot be indexed.

    `reason` is one of `encrypted`, `broken`, `no_text`, `too_large`, `too_long`, `not_a_pdf`, `timeout`, `not_found`,
    `unsupported`.
    """

    status = 422
    title = "Document cannot be indexed"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class UnsupportedFile(DocumentError):
    status = 415
    title = "Unsupported media type"
