"""Questions that ask for no answer: for the passages that a search finds, or for the text of pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from itertools import groupby

from queues.wiring import Services
from rag.citations.check import build_source
from schemas import Answer, Chunk, Passage, Query, Source

# Pages that one job reads. Their text is stored as the result of the job.
MAX_PAGES_READ = 20


async def look_up(query: Query, services: Services) -> Answer:
    """Return what the question asks for, as the sources of an answer without a text. Raises AppError.

    A source of passages is one chunk, and its score that of the search. A source of text is one whole page.
    """
    started = time.perf_counter()
    if query.only == "text":
        sources = await asyncio.to_thread(_read_pages, query, services)
        return Answer(text="", sources=sources, answered=bool(sources), times={"read": time.perf_counter() - started})
    retrieved = await services.retriever.retrieve(query)
    found = retrieved.ranked[: query.k]
    return Answer(
        text="",
        sources=tuple(build_source(n, passage, 0, len(passage.chunk.text)) for n, passage in enumerate(found, start=1)),
        answered=bool(found),
        times=retrieved.seconds,
        not_searched=retrieved.not_searched,
    )


def _read_pages(query: Query, services: Services) -> tuple[Source, ...]:
    """Return the text of the pages of the first upload that the question names; empty pages have no text."""
    upload_id = next(iter(query.upload_ids or ()), "")
    upload = services.uploads.get(upload_id, user_id=query.visible_owner)
    if upload is None or upload.chunks is None:
        return ()
    first = query.first_page or 1
    last = min(query.last_page or first + MAX_PAGES_READ, first + MAX_PAGES_READ - 1)
    chunks = services.store.chunks_of(upload_id, user_id=upload.user_id, count=upload.chunks)
    wanted = (chunk for chunk in chunks if first <= chunk.page <= last)
    pages = (_page_of(list(of_page)) for _page, of_page in groupby(wanted, key=lambda chunk: chunk.page))
    return tuple(build_source(n, page, 0, len(page.chunk.text)) for n, page in enumerate(pages, start=1))


def _page_of(chunks: list[Chunk]) -> Passage:
    """Return the chunks of a page as one: they overlap, and leave out running headers."""
    whole = chunks[0].model_copy(update={"text": "".join(_pieces(chunks)), "end": chunks[-1].end})
    return Passage(whole, 1.0)


def _pieces(chunks: Iterable[Chunk]) -> Iterable[str]:
    end = 0
    for chunk in chunks:
        if end and chunk.start > end:
            yield "\n"
        yield chunk.text[max(0, end - chunk.start) :]
        end = max(end, chunk.end)
