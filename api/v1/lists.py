"""Lists of /v1, in pages: which page a client asks for, and how the page is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import Query

MAX_LISTED: Final = 100
Order = Annotated[Literal["asc", "desc"], Query()]
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED)]


def page_of(items: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """Return items as a page. `more`: another page follows."""
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": more}
