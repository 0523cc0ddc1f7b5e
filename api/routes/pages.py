"""Pages of uploads as people see them: GET /uploads/{upload_id}/pages/{page}, its text, and the boxes of a quote."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, Field

from api.dependencies import ANY_SCOPE, DocumentServiceDep, PageViewsDep, ScopedRoute, VisibleOwnerDep
from api.problems import openapi_problems
from documents.page_views import PictureKind, boxes, locate
from documents.service import DocumentService
from errors import InvalidRequest, UploadNotFound
from schemas import Upload, UploadStatus

router = APIRouter(route_class=ScopedRoute, tags=["uploads"])

DEFAULT_WIDTH, MAX_WIDTH = 960, 2_400
MAX_PAGE = 1_000_000
# A browser asks again each time, so that nobody sees a page longer than permitted; a 304 costs no drawing.
CACHE_CONTROL = "private, no-cache"
_BINARY = {"schema": {"type": "string", "format": "binary"}}

PageNumber = Annotated[int, Path(ge=1, le=MAX_PAGE, description="Page of the document, counted from 1.")]
IfNoneMatch = Annotated[str | None, Header(description="ETag of the copy that the caller has; 304 if it is current.")]


class PageText(BaseModel):
    """The text of a page as it was indexed, and where its characters stand on the picture.

    A run is `[start, top, bottom, x0, x1, ..., xn]`: n characters of the text in one line, from `start` on. They stand
    between `top` and `bottom`; character `start + i` reaches from `x(i)` to `x(i + 1)`. All in points from the top left
    corner of the page. Where the line is written from right to left, x falls. Characters in no run have no place.
    """

    page: int
    pages: int = Field(description="Pages of the document.")
    page_label: str
    picture: bool = Field(description="True if there is a picture of the page.")
    width: float | None = Field(description="Width of the page in points; null without a picture.")
    height: float | None = Field(description="Height of the page in points; null without a picture.")
    text: str = Field(description="`start` and `end` of a source count characters (code points) of this text.")
    runs: list[list[float]]


class PageBox(BaseModel):
    """A rectangle in points from the top left corner of the page."""

    left: float
    top: float
    right: float
    bottom: float


class PageBoxes(BaseModel):
    """Where a part of the text of a page stands: one box for each line. No box if it has no place on a picture."""

    page: int
    pages: int
    width: float | None
    height: float | None
    start: int | None = Field(
        description="Where the part begins in the text; null if the page does not have the quote."
    )
    end: int | None
    boxes: list[PageBox]


@router.get(
    "/uploads/{upload_id}/pages/{page}",
    dependencies=ANY_SCOPE,
    response_class=Response,
    responses=openapi_problems(404, 422, 503)
    | {
        200: {"description": "The picture", "content": {"image/webp": _BINARY, "image/png": _BINARY}},
        304: {"description": "The picture has not changed"},
    },
)
async def page_picture(
    upload_id: str,
    page: PageNumber,
    documents: DocumentServiceDep,
    views: PageViewsDep,
    owner: VisibleOwnerDep,
    width: Annotated[int, Query(ge=32, le=MAX_WIDTH, description="Width of the picture in pixels.")] = DEFAULT_WIDTH,
    format: Annotated[PictureKind, Query(description="Format of the picture.")] = "webp",  # noqa: A002  the parameter's name
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the picture of a page of a PDF, or of an image.

    A page of extreme shape is drawn with fewer pixels than asked for.
    """
    upload = await _find(documents, upload_id, owner)
    tag = f'"{views.picture_name(upload, page, width=width, kind=format)}"'
    if _is_current(if_none_match, tag):
        return Response(status_code=304, headers=_headers(tag))
    data = await views.picture(upload, page, width=width, kind=format)
    return Response(data, media_type=f"image/{format}", headers=_headers(tag))


@router.get(
    "/uploads/{upload_id}/pages/{page}/text",
    dependencies=ANY_SCOPE,
    response_model=PageText,
    responses=openapi_problems(404, 422, 503) | {304: {"description": "The text has not changed"}},
)
async def page_text(
    upload_id: str,
    page: PageNumber,
    documents: DocumentServiceDep,
    views: PageViewsDep,
    owner: VisibleOwnerDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the text of a page, its size, and where each character stands: for selecting, searching, highlighting."""
    upload = await _find(documents, upload_id, owner)
    tag = f'"{views.text_name(upload, page)}"'
    if _is_current(if_none_match, tag):
        return Response(status_code=304, headers=_headers(tag))
    view = await views.text(upload, page)
    body = PageText(
        page=page,
        pages=view.pages,
        page_label=view.label,
        picture=view.width is not None,
        width=view.width,
        height=view.height,
        text=view.text,
        runs=[[run.start, run.top, run.bottom, *run.edges] for run in view.runs],
    )
    return Response(body.model_dump_json(), media_type="application/json", headers=_headers(tag))


@router.get(
    "/uploads/{upload_id}/pages/{page}/boxes", dependencies=ANY_SCOPE, responses=openapi_problems(404, 422, 503)
)
async def page_boxes(
    upload_id: str,
    page: PageNumber,
    documents: DocumentServiceDep,
    views: PageViewsDep,
    owner: VisibleOwnerDep,
    start: Annotated[int | None, Query(ge=0, description="`start` of the source.")] = None,
    end: Annotated[int | None, Query(ge=0, description="`end` of the source.")] = None,
    quote: Annotated[
        str | None,
        Query(max_length=4_000, description="`quote` of the source. Looked for if it is not at `start` and `end`."),
    ] = None,
) -> PageBoxes:
    """Return where the quote of a source stands on the picture of its page."""
    if quote is None and (start is None or end is None):
        raise InvalidRequest([("quote", "is required, or start and end of the source")])
    view = await views.text(await _find(documents, upload_id, owner), page)
    if quote is None and locate(view, start, end, None) is None:
        raise InvalidRequest(
            [("end", f"must be more than start, and at most {len(view.text)}, the length of the page")]
        )
    span = locate(view, start, end, quote)
    found = boxes(view, *span) if span else []
    return PageBoxes(
        page=page,
        pages=view.pages,
        width=view.width,
        height=view.height,
        start=span[0] if span else None,
        end=span[1] if span else None,
        boxes=[PageBox(**box._asdict()) for box in found],
    )


async def _find(documents: DocumentService, upload_id: str, owner: str | None) -> Upload:
    """Return an upload that the caller may see. Raises UploadNotFound, also for one that is being deleted."""
    upload = await documents.get(upload_id, user_id=owner)
    if upload.status is UploadStatus.DELETING:
        raise UploadNotFound("there is no such upload: it is being deleted")
    return upload


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": CACHE_CONTROL}


def _is_current(if_none_match: str | None, tag: str) -> bool:
    tags = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    return tag in tags or "*" in tags
