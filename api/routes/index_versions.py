"""The versions of the index: which is searched, how far the next one is, and the request to build one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.dependencies import CallerDep, IndexBuildsDep, ScopedRoute, require_scope
from api.problems import openapi_problems
from client.sql.index_versions import IndexVersion, VersionState
from documents.index_builds import IndexState
from errors import Forbidden
from observability import logs
from schemas import KeyScope

router = APIRouter(route_class=ScopedRoute, tags=["uploads"])


class IndexVersionView(BaseModel):
    """How a version of the index was made."""

    model: str = Field(description="The embedding model; `bm25` for a search by words alone.")
    dimensions: int | None = Field(None, description="Length of its vectors, if any, and once known.")
    chunking: int = Field(description="Version of the way in which documents are split into chunks.")


class IndexBuildView(IndexVersionView):
    """A version of the index that is being built, in the background."""

    status: Literal["building", "failed"] = Field(
        description="`failed`: it is tried again in a while; `error` says what to do."
    )
    done: int = Field(description="Documents that are in it.")
    total: int = Field(description="Documents that are to be in it before it is searched.")
    error: str | None = None


class EarlierIndexView(IndexVersionView):
    """A version of the index that is searched no more."""

    status: Literal["kept", "removing"] = Field(
        description="`kept`: a change back to its model takes it up again. `removing`: a worker removes it."
    )
    since: datetime = Field(description="Since when it is in this state.")


class IndexView(BaseModel):
    """The version of the index that answers questions, the one that is to take its place, and earlier ones."""

    searched: IndexVersionView | None = None
    building: IndexBuildView | None = None
    earlier: list[EarlierIndexView] = Field(default_factory=list, description="Versions that were searched before.")


class ReindexAccepted(BaseModel):
    """A worker begins to build; follow the build in `index` of GET /ready."""

    job_id: str
    index: IndexView


@router.post(
    "/uploads/reindex",
    dependencies=[require_scope(KeyScope.UPLOAD)],
    status_code=202,
    responses=openapi_problems(422, 503),
    response_model_exclude_none=True,
)
async def reindex_all(
    builds: IndexBuildsDep,
    caller: CallerDep,
    *,
    everything: Annotated[
        bool, Query(alias="all", description="Build a new index even if EMBEDDING_MODEL is the same.")
    ] = False,
) -> ReindexAccepted:
    """Build the index for the present EMBEDDING_MODEL, of all documents of all users, in the background.

    Questions are answered from the present index until the new one is complete. Goes on with a build that failed.
    Where calls need a key, this one needs the scope `admin`.
    """
    if caller.key_id and not caller.has_scope(KeyScope.ADMIN):
        logs.audit("refused", status=Forbidden.status, needs=[KeyScope.ADMIN])
        raise Forbidden("the key lacks the scope admin: it may index its own uploads with POST /uploads/{id}/reindex")
    job_id = await builds.request(owner=caller.user_id, again=everything)
    logs.audit("index_requested", job_id=job_id, all=everything)
    return ReindexAccepted(job_id=job_id, index=index_view(await builds.state()))


def version_view(version: IndexVersion) -> IndexVersionView:
    """Return how a version was made, as clients see it."""
    return IndexVersionView(model=version.model, dimensions=version.dimensions, chunking=version.chunking)


def index_view(state: IndexState) -> IndexView:
    """Return the state of the index as clients see it."""
    searched = None if state.searched is None else version_view(state.searched)
    earlier = [_earlier_view(version) for version in state.earlier]
    building, progress = state.building, state.progress
    if building is None or progress is None:
        return IndexView(searched=searched, earlier=earlier)
    return IndexView(
        searched=searched,
        earlier=earlier,
        building=IndexBuildView(
            **version_view(building).model_dump(),
            status="failed" if building.state is VersionState.FAILED else "building",
            done=progress.done,
            total=progress.total,
            error=building.error,
        ),
    )


def _earlier_view(version: IndexVersion) -> EarlierIndexView:
    status: Literal["kept", "removing"] = "removing" if version.state is VersionState.REMOVING else "kept"
    return EarlierIndexView(**version_view(version).model_dump(), status=status, since=version.changed_at)
