"""Swagger UI at /docs, served by this server alone: no CDN, and a content security policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

PATH = "/docs"
OPENAPI_PATH = "/openapi.json"
STATIC_PATH = "/static-offline-docs"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# Swagger UI sets styles on elements, hence 'unsafe-inline'; its icons are data: URLs.
_POLICY = (
    "default-src 'none'; script-src 'self' {}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Add the page, its static files and the OpenAPI document to the app. The app must have been made without them."""
    app.openapi_url = OPENAPI_PATH
    app.mount(STATIC_PATH, StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"), name="docs")

    @app.get(OPENAPI_PATH, include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        """Return the OpenAPI document."""
        root = request.state.root_path
        return JSONResponse(app.openapi() | ({"servers": [{"url": root}]} if root else {}))

    @app.get(PATH, include_in_schema=False)
    async def swagger(request: Request) -> HTMLResponse:
        """Show the routes of the API, and let the reader call them."""
        root = request.state.root_path
        page = get_swagger_ui_html(
            openapi_url=f"{root}{OPENAPI_PATH}",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{root}{STATIC_PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{STATIC_PATH}/swagger-ui.css",
            swagger_favicon_url=f"{root}{STATIC_PATH}/favicon.png",
            swagger_ui_parameters=app.swagger_ui_parameters,
        )
        hashes = " ".join(map(_csp_hash, _INLINE_SCRIPT.findall(bytes(page.body))))
        page.headers["Content-Security-Policy"] = _POLICY.format(hashes)
        return page


def _csp_hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
