"""The file of an upload, as a download."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from fastapi.responses import StreamingResponse

from api.pools import Pools
from client.files.store import FileStore
from schemas import Upload


async def file_response(upload: Upload, files: FileStore, pools: Pools) -> StreamingResponse:
    """Return the file of an upload, byte for byte."""
    chunks: Iterator[bytes] = await pools.files.run(files.read, upload.file_id)
    headers = {
        # A browser must save the file, never show it: an uploaded page must not run as a page of this server.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(upload.name, safe='')}",
        "Content-Length": str(upload.bytes),
        "ETag": f'"{upload.sha256}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(chunks, media_type=upload.media_type, headers=headers)
