"""GET /cited/{upload_id}/{page}: the page that an answer cites, for people who follow a signed link without a key."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import HTMLResponse

from api.citation_links import page_title, signed_query
from api.dependencies import DocumentServiceDep, LinkSignerDep, PageViewsDep, SettingsDep
from api.middleware.auth import CITED_PATH
from api.routes.pages import DEFAULT_WIDTH, PageNumber
from auth.links import CitedPlace
from documents.page_views import PageView, boxes, locate
from errors import UploadNotFound
from schemas import Upload, UploadStatus

# The signature takes the place of a key.
router = APIRouter(prefix=CITED_PATH.rstrip("/"), include_in_schema=False)

_NOT_VALID: Final = "this link is wrong or has expired, or the document was deleted: ask again for a new link"
_STYLE: Final = (
    "body{font:1rem/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.2rem}svg{width:100%;height:auto;border:1px solid #888}pre{white-space:pre-wrap}"
)
_POLICY: Final = (
    f"default-src 'none'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
_MAX_OFFSET: Final = 2**31


async def _place(
    upload_id: str,
    page: PageNumber,
    signer: LinkSignerDep,
    settings: SettingsDep,
    start: Annotated[int, Query(ge=0, le=_MAX_OFFSET)],
    end: Annotated[int, Query(ge=0, le=_MAX_OFFSET)],
    until: Annotated[int, Query(ge=0, le=2**53)],
    signature: Annotated[str, Query(max_length=100)],
) -> CitedPlace:
    """Return the place that a link shows. Raises UploadNotFound for a link that is not valid."""
    place = CitedPlace(upload_id, page, start, end, until)
    if settings.public_url is None or not await signer.is_valid(place, signature):
        raise UploadNotFound(_NOT_VALID)
    return place


PlaceDep = Annotated[CitedPlace, Depends(_place)]


async def _upload(place: PlaceDep, documents: DocumentServiceDep) -> Upload:
    """Return the document of a valid link. Raises UploadNotFound for one that was deleted."""
    upload = await documents.get(place.upload_id, user_id=None)
    if upload.status is UploadStatus.DELETING:
        raise UploadNotFound(_NOT_VALID)
    return upload


UploadDep = Annotated[Upload, Depends(_upload)]


@router.get("/{upload_id}/{page}")
async def cited_page(place: PlaceDep, upload: UploadDep, views: PageViewsDep, signer: LinkSignerDep) -> Response:
    """Show a page with the cited words marked: on its picture where it has one, and in its text."""
    view = await views.text(upload, place.page)
    picture = _picture(view, place, await signer.key()) if view.width is not None else ""
    title = escape(page_title(upload.name, view.label, place.page))
    document = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{picture}{_text(view, place)}</body></html>"
    )
    return HTMLResponse(document, headers={"Content-Security-Policy": _POLICY})


@router.get("/{upload_id}/{page}/picture")
async def cited_picture(place: PlaceDep, upload: UploadDep, views: PageViewsDep) -> Response:
    """Return the picture of the page."""
    data = await views.picture(upload, place.page, width=2 * DEFAULT_WIDTH, kind="webp")
    return Response(data, media_type="image/webp")


def _picture(view: PageView, place: CitedPlace, key: bytes) -> str:
    """Return the picture of a page with boxes around the cited words."""
    found = boxes(view, place.start, place.end) if locate(view, place.start, place.end, None) else []
    marked = "".join(
        f'<rect x="{box.left:.1f}" y="{box.top:.1f}" width="{box.right - box.left:.1f}" '
        f'height="{box.bottom - box.top:.1f}" fill="#fc3" fill-opacity="0.4"/>'
        for box in found
    )
    address = escape(f"{place.page}/picture?{signed_query(place, key)}")
    return (
        f'<svg viewBox="0 0 {view.width:.1f} {view.height:.1f}" role="img" aria-label="The page">'
        f'<image href="{address}" width="{view.width:.1f}" height="{view.height:.1f}"/>{marked}</svg>'
    )


def _text(view: PageView, place: CitedPlace) -> str:
    """Return the text of a page with the cited words marked."""
    start, end = locate(view, place.start, place.end, None) or (0, 0)
    before, cited, after = (escape(text) for text in (view.text[:start], view.text[start:end], view.text[end:]))
    text = f"<pre>{before}<mark>{cited}</mark>{after}</pre>"
    return text if view.width is None else f"<details><summary>Text</summary>{text}</details>"
