"""What one call of a tool, or one read of a resource, knows of the app and of its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from api.questions import Asking
from client.rq_client import JobQueue
from documents.service import DocumentService
from errors import Forbidden
from observability import logs
from schemas import Caller, KeyScope
from settings import Settings

TASKS: Final = "io.modelcontextprotocol/tasks"
Report = Callable[[float, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `report` sends progress to a client that asked for it: a growing number, and a sentence.

    `takes_tasks`: the client can follow a task instead of waiting for the result.
    """

    request: Request
    report: Report
    takes_tasks: bool

    @property
    def state(self) -> Any:
        """AppState, and what the middleware added."""
        return self.request.state

    @property
    def caller(self) -> Caller:
        """The user who calls."""
        caller: Caller = self.request.state.caller
        return caller

    @property
    def queue(self) -> JobQueue:
        """The queues."""
        queue: JobQueue = self.request.state.queue
        return queue

    @property
    def documents(self) -> DocumentService:
        """The uploads."""
        documents: DocumentService = self.request.state.documents
        return documents

    @property
    def settings(self) -> Settings:
        """The settings of the service."""
        settings: Settings = self.request.state.settings
        return settings

    @property
    def asking(self) -> Asking:
        """What puts questions on the queue."""
        return Asking(self.settings, self.queue, self.documents, self.state.quotas, self.caller)

    def require_scope(self, *scopes: KeyScope) -> None:
        """Raise Forbidden unless the key has one of the scopes."""
        if not self.caller.has_scope(*scopes):
            logs.audit("refused", status=Forbidden.status, needs=list(scopes))
            raise Forbidden(f"the key lacks the scope {' or '.join(scopes)}: use a key that has it")
