"""Pages cut into chunks that keep their page and their place in its text."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

from schemas import Chunk, Document, Page

# About 200 tokens: larger chunks blur the ranking, smaller ones split the sentence that answers.
CHUNK_CHARS = 900
OVERLAP_CHARS = 100
_SEPARATORS = ["\n\n", "\n", ". ", "? ", "! ", "; ", ", ", " ", ""]
_NAMESPACE = uuid.UUID("6f0c2c1e-5f0b-5c52-9a55-2f3c3c3d9e01")


def chunk_pages(document: Document, pages: Iterable[Page], *, model: str) -> Iterator[Chunk]:
    """Yield the chunks of a document in order; none crosses a page.

    A chunk's id follows from the upload, the chunk's number and the embedding `model`, so that indexing again
    overwrites.
    """
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # 0.2 s that a question need not pay

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=CHUNK_CHARS, chunk_overlap=OVERLAP_CHARS, separators=_SEPARATORS, add_start_index=True
    )
    index = 0
    for page in pages:
        for piece in splitter.create_documents([page.text]):
            start = piece.metadata["start_index"]
            yield Chunk(
                id=str(uuid.uuid5(_NAMESPACE, f"{document.upload_id}/{index}/{model}")),
                upload_id=document.upload_id,
                user_id=document.user_id,
                name=document.name,
                index=index,
                page=page.number,
                page_label=page.label,
                start=start,
                end=start + len(piece.page_content),
                text=piece.page_content,
            )
            index += 1
