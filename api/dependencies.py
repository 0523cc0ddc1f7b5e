"""What routes ask for, by name.

All of it is async, though nothing here waits: FastAPI sends a sync dependency through a thread, 0.1 ms for each.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, TypedDict

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from api.middleware.auth import Authenticator
from auth.quotas import Quotas
from client.files.store import FileStore
from client.rq_client import JobQueue
from client.sql.uploads import UploadRepository
from documents.service import DocumentService
from errors import Forbidden
from observability import logs
from schemas import Caller, KeyScope
from settings import Settings
from webhooks.store import WebhookStore


class State(TypedDict):
    """What lives as long as the app."""

    settings: Settings
    queue: JobQueue
    uploads: UploadRepository
    files: FileStore
    library: DocumentService
    webhooks: WebhookStore
    gate: Authenticator
    quotas: Quotas


def _state(name: str) -> Any:
    """Make a dependency of something in the state: the app's, or what middleware has put there for this request."""

    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(get)


CurrentSettings = Annotated[Settings, _state("settings")]
Queue = Annotated[JobQueue, _state("queue")]
Uploads = Annotated[UploadRepository, _state("uploads")]
Files = Annotated[FileStore, _state("files")]
Shelf = Annotated[DocumentService, _state("library")]
Webhooks = Annotated[WebhookStore, _state("webhooks")]
Allowance = Annotated[Quotas, _state("quotas")]
CallerNow = Annotated[Caller, _state("caller")]


async def _user(caller: CallerNow) -> str:
    return caller.user_id


async def _sees(caller: CallerNow) -> str | None:
    return caller.sees


# Whose is what a request makes; and whose resources it may see: None is everybody's.
User = Annotated[str, Depends(_user)]
Sees = Annotated[str | None, Depends(_sees)]


class _Scopes:
    """What lets in only callers with one of these scopes."""

    def __init__(self, scopes: Sequence[KeyScope]) -> None:
        self._scopes = scopes

    async def __call__(self, caller: CallerNow) -> None:
        if not caller.may(*self._scopes):
            logs.audit("refused", status=Forbidden.status, needs=list(self._scopes))
            raise Forbidden(f"the key needs the scope {' or '.join(self._scopes)} for this")


def needs(*scopes: KeyScope) -> Any:
    """Make a dependency of a `ScopedRoute` that lets in only callers with one of these scopes."""
    return Depends(_Scopes(scopes))


class ScopedRoute(APIRoute):
    """A route that looks at the caller's scopes before it reads the body: FastAPI reads that before any dependency."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()
        checks = [one.dependency for one in self.dependencies if isinstance(one.dependency, _Scopes)]

        async def handle(request: Request) -> Response:
            for check in checks:
                await check(request.state.caller)
            return await answer(request)

        return handle
