"""The addresses of citations: signed links to the cited page where PUBLIC_URL is set, else to the file, with a key."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request

from api.middleware.auth import CITED_PATH
from auth.links import CitedPlace, LinkSigner, sign
from schemas import Source
from settings import Settings


@dataclass(frozen=True, slots=True)
class CitationLinks:
    """Makes the addresses of one request. `base_url`: the service as its clients know it. `key`: signs links.

    A link can be followed until `seconds` after the question.
    """

    base_url: str
    key: bytes | None = None
    seconds: int = 0

    @property
    def open_pages(self) -> bool:
        """True if a browser without a key can follow the addresses."""
        return self.key is not None

    def to(self, source: Source, asked_at: int) -> str:
        """Return the address of a source of an answer to a question of that time, the same at each call."""
        if self.key is None:
            return f"{self.base_url}/uploads/{source.upload_id}/file#page={source.page}"
        place = CitedPlace(source.upload_id, source.page, source.start, source.end, asked_at + self.seconds)
        path = f"{CITED_PATH}{quote(place.upload_id, safe='')}/{place.page}"
        return f"{self.base_url}{path}?{signed_query(place, self.key)}"


async def citation_links(request: Request) -> CitationLinks:
    """Return the addresses of citations for a request. Raises QueueUnavailable."""
    state = request.state
    settings: Settings = state.settings
    if settings.public_url is None:
        root_path = getattr(state, "root_path", "")
        return CitationLinks(f"{request.url.scheme}://{request.url.netloc}{root_path}")
    signer: LinkSigner = state.link_signer
    return CitationLinks(settings.public_url, await signer.key(), settings.result_ttl_seconds)


def page_title(name: str, page_label: str, page: int) -> str:
    """Return how a page is called. The label of a file without pages has a space: "Sheet Q3, rows 2–41"."""
    label = page_label or str(page)
    return f"{name}, {label if ' ' in label else f'page {label}'}"


def title_of(source: Source) -> str:
    """Return how the page of a source is called."""
    return page_title(source.name, source.page_label, source.page)


def signed_query(place: CitedPlace, key: bytes) -> str:
    """Return the query of a link."""
    return f"start={place.start}&end={place.end}&until={place.until}&signature={sign(place, key)}"
