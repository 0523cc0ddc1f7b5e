"""The files of the page: GET /page/{name}. The page itself is at `/`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from api.dependencies import PageFilesDep
from api.page_files import PUBLIC_PATH

router = APIRouter(include_in_schema=False)


@router.get(PUBLIC_PATH + "{name:path}")
async def page_file(name: str, request: Request, files: PageFilesDep) -> Response:
    """Return a file of the page."""
    found = files.response(request, name)
    if found is None:
        raise HTTPException(404)
    return found
