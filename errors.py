"""The errors that users see. Each has an HTTP status and a short title; its detail says what happened and what to do.

AppError
├── SettingsError              a setting has a bad value: the program does not start
├── BackupError                a backup cannot be written, read or restored
├── RequestError
│   ├── Unauthenticated        401
│   ├── Forbidden              403, the key lacks the scope
│   ├── TooManyRequests        429, the caller has reached a limit
│   ├── InvalidRequest         422
│   ├── IdempotencyConflict    422
│   ├── PayloadTooLarge        413
│   ├── RequestTimedOut        408
│   ├── JobNotFound            404
│   ├── BatchNotFound          404
│   ├── JobExpired             410
│   ├── UploadNotFound         404
│   ├── KeyNotFound            404, an unknown API key
│   ├── AdminKeyMissing        409, the first key must have the scope admin
│   ├── NoKeyNeeded            409, a session of a server that asks for no key
│   ├── PageNotFound           404, a file has no such page, or no picture of the page
│   ├── WebhookNotFound        404, an unknown endpoint or delivery
│   ├── WebhookConflict        409, the state of an endpoint or delivery does not allow the request
│   ├── WebhookUrlRefused      422, webhooks may not be sent to the URL
│   ├── TooManyJobs            429, too many jobs of the user are waiting
│   └── UploadNotReady         409, a question names an upload that search cannot find yet
├── StreamEnded                204, the reader has seen the last event
├── EventsUnreadable           500, another program has changed the events of a job
├── ServerBusy                 503, too many requests at a time
├── QueueUnavailable           503, Valkey does not answer or refuses writes
├── IdentityUnavailable        503, the public keys of the identity provider cannot be read
├── UploadsUnavailable         503, the SQL database does not answer
├── FilesUnavailable           503, the file store does not answer
│   └── FileMissing            404, the file store has lost the file of an upload
├── IndexSwitched              another version of the index is searched now: begin again
├── UploadGone                 409, the upload was deleted, or another job took it over, while a job worked on it
├── JobTimedOut                the job reached its time limit
├── JobStopped                 another worker has taken over the job
│   └── JobCancelled           a user cancelled the job
├── StoreError                 503, the vector store failed
│   ├── NothingIndexed         the collection does not exist yet
│   ├── StoreDamaged           the files of the embedded store are damaged
│   ├── EmbeddingSizeChanged   the vectors of the embedding model do not fit those that are stored
│   ├── StoreInUse             another long-lived process owns the embedded store
│   ├── StoreRefused           the vector store answers, but refuses the key or the request
│   └── StoreUnavailable       the vector store does not answer: jobs wait for it
├── ProviderError              502, the model provider failed
│   ├── ContentFiltered
│   ├── ProviderKeyRejected
│   ├── ModelNotFound
│   ├── ProviderRateLimited
│   ├── ProviderTimeout
│   └── ProviderUnavailable
└── DocumentError              422, the file cannot be indexed; `reason` is for programs
    └── UnsupportedFile        415
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class AppError(Exception):
    """A failure with a sentence for the user. The sentence never contains a secret or a stack trace."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class SettingsError(AppError):
    title = "Wrong setting"


class BackupError(AppError):
    title = "Backup failed"


class RequestError(AppError):
    status = 400
    title = "Bad request"


class Unauthenticated(RequestError):
    """A caller who is not known. `reason` is for the audit log: a claim of the token, or "key" for a wrong key."""

    status = 401
    title = "Authentication required"

    def __init__(self, detail: str, *, reason: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason


class TooManyRequests(RequestError):
    """A limit that passes with time. `headers` are sent with the response."""

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_seconds: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.headers = dict(headers or {})


def rate_limit_headers(name: str, policy: str, *, remaining: int, reset_seconds: int) -> dict[str, str]:
    """Return the RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10)."""
    return {"RateLimit-Policy": f'"{name}";{policy}', "RateLimit": f'"{name}";r={remaining};t={reset_seconds}'}


class Forbidden(RequestError):
    status = 403
    title = "Not allowed"


class InvalidRequest(RequestError):
    """A request that does not validate. `problems` holds pairs of a field and what is wrong with the field."""

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


class CollectionNotFound(RequestError):
    status = 404
    title = "Collection not found"


class ConversationNotFound(RequestError):
    status = 404
    title = "Conversation not found"


class JobExpired(RequestError):
    status = 410
    title = "Job expired"


class UploadNotFound(RequestError):
    status = 404
    title = "Upload not found"


class KeyNotFound(RequestError):
    status = 404
    title = "Key not found"


class AdminKeyMissing(RequestError):
    status = 409
    title = "Admin key missing"


class NoKeyNeeded(RequestError):
    status = 409
    title = "No key needed"


class PageNotFound(RequestError):
    status = 404
    title = "Page not found"


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
    """A URL to which no webhook is sent. The detail continues the name of the field: "must start with https://"."""

    status = 422
    title = "Webhook URL refused"


class TooManyJobs(TooManyRequests):
    title = "Too many jobs waiting"


class StreamEnded(AppError):
    status = 204
    title = "Nothing more"


class EventsUnreadable(AppError):
    title = "Events unreadable"


class ServerBusy(AppError):
    status = 503
    title = "Server busy"


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


class IndexSwitched(AppError):
    title = "Index switched"

    def __init__(self) -> None:
        super().__init__("another version of the index is searched now; try again", retry_after_seconds=1)


class JobTimedOut(AppError):
    title = "Job timed out"

    @classmethod
    def after(cls, seconds: str) -> JobTimedOut:
        """Return the error of a job that reached its time limit of `seconds`."""
        return cls(f"the job ran longer than {seconds} s (JOB_TIMEOUT_SECONDS)")


class JobStopped(AppError):
    title = "Job stopped"


class JobCancelled(JobStopped):
    title = "Job cancelled"


class StoreError(AppError):
    status = 503
    title = "Vector store error"


class NothingIndexed(StoreError):
    title = "Nothing indexed"


class StoreDamaged(StoreError):
    title = "Vector store damaged"


class EmbeddingSizeChanged(StoreError):
    title = "Embeddings changed their size"


class StoreInUse(StoreError):
    title = "Vector store in use"


class StoreRefused(StoreError):
    title = "Vector store refused"


class StoreUnavailable(StoreError):
    title = "Vector store unavailable"


class ProviderError(AppError):
    status = 502
    title = "Model provider error"


class ContentFiltered(ProviderError):
    title = "Withheld by the content filter"


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

    `reason` is one of `encrypted`, `broken`, `no_text`, `empty`, `unreadable_text`, `unknown_encoding`, `xfa_form`,
    `too_large`, `too_long`, `not_a_pdf`, `timeout`, `not_found`, `unsupported`; for one
    page also `no_page`, `no_picture`.
    """

    status = 422
    title = "Document cannot be indexed"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class UnsupportedFile(DocumentError):
    status = 415
    title = "Unsupported media type"
