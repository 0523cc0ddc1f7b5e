"""The files of the page in folder page/, as browsers get them: type, ETag, compressed once, content security policy."""

from __future__ import annotations

import gzip
import hashlib
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from settings import ROOT

FOLDER: Final = ROOT / "page"
# The document that the page offers to somebody who has none.
SAMPLE: Final = ROOT / "samples" / "handbook.pdf"
PUBLIC_PATH: Final = "/page/"
INDEX: Final = "index.html"
# Nothing from elsewhere, nothing inline, no form that would put a key into an address.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "font-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".pdf": "application/pdf",
}
_PACKED: Final = {".png", ".webp", ".ico", ".woff2", ".pdf"}
_HEAD: Final = b"<head>"


@dataclass(frozen=True, slots=True)
class _PageFile:
    modified_ns: int
    body: bytes
    zipped: bytes | None
    tag: str
    media_type: str


class PageFiles:
    """The files of a folder. A file is read and compressed when it is first asked for, and again after it changed."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files: dict[tuple[str, str], _PageFile] = {}

    def response(self, request: Request, name: str) -> Response | None:
        """Return the response with a file; None if there is no such file."""
        file = self._file(name, request.state.root_path if name == INDEX else "")
        if file is None:
            return None
        headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if name == INDEX:
            headers |= {"Vary": "Accept, Accept-Encoding", "Content-Security-Policy": POLICY}
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if file.zipped and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(file.zipped, headers=headers, media_type=file.media_type)
        return Response(file.body, headers=headers, media_type=file.media_type)

    def _file(self, name: str, root_path: str) -> _PageFile | None:
        path = SAMPLE if name == SAMPLE.name else self._folder / name
        parts = name.split("/")
        if path.suffix not in _TYPES or any(part.startswith(".") or not part for part in parts) or "\\" in name:
            return None
        try:
            modified_ns = path.stat().st_mtime_ns
            known = self._files.get((name, root_path))
            if known is None or known.modified_ns != modified_ns:
                known = self._files[name, root_path] = _read(path, modified_ns, root_path)
        except (OSError, ValueError):
            return None
        return known


def _read(path: Path, modified_ns: int, root_path: str) -> _PageFile:
    body = path.read_bytes()
    if root_path:  # relative addresses must not depend on whether the browser's address ends with a slash
        base = f'<base href="{html.escape(root_path)}/">'.encode()
        body = body.replace(_HEAD, _HEAD + base, 1)
    zipped = None if path.suffix in _PACKED else gzip.compress(body, mtime=0)
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    return _PageFile(modified_ns, body, zipped, tag, _TYPES[path.suffix])
