"""The client package and the command `ragq`: ask a RAG Query API server. Imports nothing of the server."""

from ragq.aio import AsyncClient, AsyncEventStream
from ragq.base import package_version
from ragq.client import Client, EventStream
from ragq.errors import (
    ConfigError,
    JobFailed,
    KeyRefused,
    NotFinished,
    NotFound,
    RagqError,
    RateLimited,
    RequestRefused,
    ServerBusy,
    ServerUnreachable,
    TooLarge,
    UnexpectedResponse,
    UploadFailed,
)
from ragq.events import Event, Failed, Finished, Progress, Queued, Sources, Started, Token
from ragq.models import Answer, Caller, Job, Link, ListedJob, Source, Stage, Upload, Usage

__version__ = package_version()
__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncEventStream",
    "Caller",
    "Client",
    "ConfigError",
    "Event",
    "EventStream",
    "Failed",
    "Finished",
    "Job",
    "JobFailed",
    "KeyRefused",
    "Link",
    "ListedJob",
    "NotFinished",
    "NotFound",
    "Progress",
    "Queued",
    "RagqError",
    "RateLimited",
    "RequestRefused",
    "ServerBusy",
    "ServerUnreachable",
    "Source",
    "Sources",
    "Stage",
    "Started",
    "Token",
    "TooLarge",
    "UnexpectedResponse",
    "Upload",
    "UploadFailed",
    "Usage",
]
