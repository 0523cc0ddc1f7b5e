"""The last question: its job, and the pages that its answer cites, for `ragq open` and `ragq watch`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlencode

from ragq.config import folder, write_private
from ragq.models import Source


@dataclass(frozen=True)
class Page:
    """The page of a source."""

    n: int
    upload_id: str
    page: int


@dataclass(frozen=True)
class LastQuestion:
    """The job of a question, and the pages of its sources once it is answered. No text is kept."""

    url: str
    job_id: str
    pages: tuple[Page, ...] = ()

    def address(self, n: int) -> str | None:
        """Return the address of a source in the viewer of the server's page; None without such a source."""
        for page in self.pages:
            if page.n == n:
                return viewer_address(self.url, self.job_id, page)
        return None


def viewer_address(url: str, job_id: str, page: Page) -> str:
    query = urlencode({"view": page.upload_id, "page": page.page, "job": job_id, "n": page.n})
    return f"{url}/#/ask?{query}"


def pages_of(sources: Sequence[Source]) -> tuple[Page, ...]:
    return tuple(Page(source.n, source.upload_id, source.page) for source in sources)


def save(last: LastQuestion) -> None:
    """Keep the last question. A folder that cannot be written is no reason to fail."""
    with suppress(OSError):
        write_private(_path(), json.dumps(asdict(last)))


def load() -> LastQuestion | None:
    """Return the last question; None before the first question."""
    try:
        kept = json.loads(_path().read_text(encoding="utf-8"))
        return LastQuestion(kept["url"], kept["job_id"], tuple(Page(**page) for page in kept["pages"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path() -> Path:
    return folder() / "last.json"
