"""The dependencies that routes ask for.

Naming: `<Type>Dep` is a dependency that gives a `<Type>`. Where the type is a plain string, the name says its meaning:
`UserIdDep`, `VisibleOwnerDep`. Every dependency is async, although no dependency waits: FastAPI would run a sync one
in a thread, which costs 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, TypedDict

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from api.middleware.auth import Authenticator
from api.page_files import PageFiles
from api.pools import Pools
from auth.api_keys import ApiKeyRepository
from auth.links import LinkSigner
from auth.quotas import Quotas
from auth.sessions import SessionStore
from client.files.store import FileStore
from client.rq_client import JobQueue
from client.sql.conversations import ConversationRepository
from client.sql.stores import VectorStoreRepository
from client.sql.uploads import UploadRepository
from client.sql.users import UserRepository
from documents.index_builds import IndexBuilds
from documents.page_views import PageViews
from documents.service import DocumentService
from errors import Forbidden
from monitoring.collector import DeploymentMetrics
from observability import logs
from schemas import Caller, KeyScope
from settings import Settings
from webhooks.store import WebhookStore

_PROXY_HEADERS = ("x-forwarded-for", "x-forwarded-host", "forwarded", "via")


class AppState(TypedDict):
    """The objects that live as long as the app. Each request reads them from `request.state`."""

    settings: Settings
    queue: JobQueue
    uploads: UploadRepository
    stores: VectorStoreRepository
    conversations: ConversationRepository
    users: UserRepository
    files: FileStore
    documents: DocumentService
    page_views: PageViews
    builds: IndexBuilds
    webhooks: WebhookStore
    authenticator: Authenticator
    api_keys: ApiKeyRepository
    sessions: SessionStore
    link_signer: LinkSigner
    page_files: PageFiles
    quotas: Quotas
    pools: Pools
    metrics: DeploymentMetrics
    mcp: object  # api.mcp.endpoint.McpEndpoint, which imports this module


def _from_state(name: str) -> Any:
    """Make a dependency that reads `request.state`: a member of AppState, or a value that middleware set."""

    async def read(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(read)


SettingsDep = Annotated[Settings, _from_state("settings")]
JobQueueDep = Annotated[JobQueue, _from_state("queue")]
ConversationRepositoryDep = Annotated[ConversationRepository, _from_state("conversations")]
VectorStoreRepositoryDep = Annotated[VectorStoreRepository, _from_state("stores")]
UserRepositoryDep = Annotated[UserRepository, _from_state("users")]
UploadRepositoryDep = Annotated[UploadRepository, _from_state("uploads")]
FileStoreDep = Annotated[FileStore, _from_state("files")]
DocumentServiceDep = Annotated[DocumentService, _from_state("documents")]
PageViewsDep = Annotated[PageViews, _from_state("page_views")]
IndexBuildsDep = Annotated[IndexBuilds, _from_state("builds")]
WebhookStoreDep = Annotated[WebhookStore, _from_state("webhooks")]
AuthenticatorDep = Annotated[Authenticator, _from_state("authenticator")]
ApiKeyRepositoryDep = Annotated[ApiKeyRepository, _from_state("api_keys")]
SessionStoreDep = Annotated[SessionStore, _from_state("sessions")]
LinkSignerDep = Annotated[LinkSigner, _from_state("link_signer")]
PageFilesDep = Annotated[PageFiles, _from_state("page_files")]
MetricsDep = Annotated[DeploymentMetrics, _from_state("metrics")]
PoolsDep = Annotated[Pools, _from_state("pools")]
QuotasDep = Annotated[Quotas, _from_state("quotas")]
CallerDep = Annotated[Caller, _from_state("caller")]


async def _user_id(caller: CallerDep) -> str:
    return caller.user_id


async def _visible_owner(caller: CallerDep) -> str | None:
    return caller.visible_owner


# The user who becomes the owner of the resources that the request creates.
UserIdDep = Annotated[str, Depends(_user_id)]
# The user whose resources the caller may see; None for the resources of all users.
VisibleOwnerDep = Annotated[str | None, Depends(_visible_owner)]


class _ScopeCheck:
    """A dependency that admits only callers with one of the scopes."""

    def __init__(self, scopes: Sequence[KeyScope]) -> None:
        self._scopes = scopes

    async def __call__(self, caller: CallerDep) -> None:
        if not caller.has_scope(*self._scopes):
            logs.audit("refused", status=Forbidden.status, needs=list(self._scopes))
            needed = " or ".join(self._scopes)
            raise Forbidden(f"the key lacks the scope {needed}: use a key that has it")


def require_scope(*scopes: KeyScope) -> Any:
    """Make a dependency for a `ScopedRoute` that admits only callers with one of the scopes."""
    return Depends(_ScopeCheck(scopes))


# The dependencies of a route that a caller with either scope may use.
ANY_SCOPE = [require_scope(KeyScope.QUERY, KeyScope.UPLOAD)]


async def _is_operator(request: Request, caller: CallerDep, settings: SettingsDep) -> bool:
    """Return True for an admin; while no key is asked for, for this machine, if no reverse proxy sent the request."""
    if caller.has_scope(KeyScope.ADMIN):
        return True
    anonymous = not await request.state.authenticator.requires_key()
    return anonymous and settings.on_loopback and not any(name in request.headers for name in _PROXY_HEADERS)


IsOperatorDep = Annotated[bool, Depends(_is_operator)]


async def _require_operator(is_operator: IsOperatorDep) -> None:
    if is_operator:
        return
    logs.audit("refused", status=Forbidden.status, needs=[KeyScope.ADMIN])
    raise Forbidden("only an admin may do this: send a key with the scope admin")


# The dependencies of a route of whoever runs the service.
OPERATOR = [Depends(_require_operator)]


class ScopedRoute(APIRoute):
    """A route that checks the caller's scopes before the body is read. FastAPI reads the body before dependencies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        handle = super().get_route_handler()

        async def handle_checked(request: Request) -> Response:
            await self.before_body(request)
            return await handle(request)

        return handle_checked

    async def before_body(self, request: Request) -> None:
        """Check what can be checked before the body is read. Raises Forbidden."""
        for depends in self.dependencies:
            if isinstance(depends.dependency, _ScopeCheck):
                await depends.dependency(request.state.caller)
