"""A stand-in for docling-serve: its asynchronous routes, with the shapes of its OpenAPI document."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import FastAPI, Form, Header, HTTPException, UploadFile
from fastapi.responses import JSONResponse

from tests.support.openai_stub import serving

Json = dict[str, Any]
Key = Annotated[str | None, Header()]


@dataclass
class Behaviour:
    """How the stub answers, and the requests that it received."""

    # What each file becomes, in this order; the last document for all further files.
    documents: list[Json] = field(default_factory=list)
    # The statuses that the next requests get instead of an answer.
    fail_next: list[int] = field(default_factory=list)
    # How often a task is still under way when it is polled.
    polls: int = 1
    # The failure of every conversion.
    failure: str = ""
    key: str = ""
    requests: int = 0
    files: list[tuple[str, bytes]] = field(default_factory=list)
    options: list[Json] = field(default_factory=list)


@dataclass
class DoclingStub:
    url: str
    behaviour: Behaviour


@contextmanager
def docling_stub(**behaviour: Any) -> Iterator[DoclingStub]:
    """Run the service on a free port."""
    state = Behaviour(**behaviour)
    with serving(_app(state)) as url:
        yield DoclingStub(url, state)


def _app(state: Behaviour) -> FastAPI:
    app = FastAPI()
    tasks: dict[str, Json] = {}

    @app.post("/v1/convert/file/async")
    def convert(
        files: list[UploadFile],
        to_formats: Annotated[list[str], Form()],
        image_export_mode: Annotated[str, Form()] = "placeholder",
        do_ocr: Annotated[bool, Form()] = True,
        x_api_key: Key = None,
    ) -> Json:
        _check(state, x_api_key)
        state.files += [(file.filename or "", file.file.read()) for file in files]
        state.options.append({"to_formats": to_formats, "images": image_export_mode, "do_ocr": do_ocr})
        document = state.documents.pop(0) if len(state.documents) > 1 else (state.documents or [docling([])])[0]
        task: Json = {"task_id": str(uuid.uuid4()), "status": "pending", "polls": state.polls, "document": document}
        tasks[task["task_id"]] = task
        return _status(state, task)

    @app.get("/v1/status/poll/{task_id}")
    def poll(task_id: str, wait: float = 0.0, x_api_key: Key = None) -> Json:
        _check(state, x_api_key)
        assert wait > 0
        if task_id not in tasks:
            raise HTTPException(404, detail="Task not found.")
        task = tasks[task_id]
        task["polls"] -= 1
        task["status"] = "started" if task["polls"] > 0 else "failure" if state.failure else "success"
        return _status(state, task)

    @app.get("/v1/result/{task_id}")
    def result(task_id: str, x_api_key: Key = None) -> JSONResponse:
        _check(state, x_api_key)
        content = {"filename": "file", "md_content": None, "json_content": tasks[task_id]["document"]}
        content |= {"html_content": None, "text_content": None, "doctags_content": None}
        return JSONResponse(
            {"document": content, "status": "success", "errors": [], "processing_time": 0.1, "timings": {}}
        )

    return app


def _check(state: Behaviour, key: str | None) -> None:
    state.requests += 1
    if state.key and key != state.key:
        raise HTTPException(401, detail=None)
    if state.fail_next:
        raise HTTPException(state.fail_next.pop(0), detail="Server is busy, please try again shortly.")


def _status(state: Behaviour, task: Json) -> Json:
    failure = {"category": "internal", "message": state.failure, "retryable": False, "phase": "conversion"}
    return {
        "task_id": task["task_id"],
        "task_type": "convert",
        "task_status": task["status"],
        "task_position": None,
        "task_meta": None,
        "error_message": state.failure or None,
        "failure": failure if state.failure else None,
    }


def docling(items: list[Json]) -> Json:
    """Return a DoclingDocument with these items in reading order. A table has `data`; anything else is a text."""
    texts: list[Json] = []
    tables: list[Json] = []
    children = []
    for item in items:
        kind, listed = ("tables", tables) if "data" in item else ("texts", texts)
        reference = f"#/{kind}/{len(listed)}"
        base = {"self_ref": reference, "parent": {"$ref": "#/body"}, "children": [], "content_layer": "body"}
        listed.append(base | {"orig": item.get("text", "")} | item)
        children.append({"$ref": reference})
    body = {"self_ref": "#/body", "children": children, "content_layer": "body", "name": "_root_"}
    root = {
        "schema_name": "DoclingDocument",
        "version": "1.9.0",
        "name": "file",
        "body": body | {"label": "unspecified"},
    }
    return root | {"groups": [], "texts": texts, "pictures": [], "tables": tables, "key_value_items": [], "pages": {}}


def text(words: str, label: str = "text", *, page: int | None = 1, **more: Any) -> Json:
    """Return a text item; `page` None for one without a place."""
    return {"label": label, "text": words, "prov": _places(page)} | more


def table(*rows: list[str], headers: int = 1, page: int | None = 1, **more: Any) -> Json:
    """Return a table item whose first rows are headers."""
    cells = [
        {
            "bbox": None,
            "row_span": 1,
            "col_span": 1,
            "start_row_offset_idx": row,
            "end_row_offset_idx": row + 1,
            "start_col_offset_idx": column,
            "end_col_offset_idx": column + 1,
            "text": cell,
            "column_header": row < headers,
            "row_header": False,
            "row_section": False,
            "fillable": False,
        }
        for row, line in enumerate(rows)
        for column, cell in enumerate(line)
    ]
    data = {"table_cells": cells, "num_rows": len(rows), "num_cols": max(map(len, rows))}
    return {"label": "table", "prov": _places(page), "captions": [], "data": data} | more


def _places(page: int | None) -> list[Json]:
    box = {"l": 72.0, "t": 700.0, "r": 300.0, "b": 680.0, "coord_origin": "BOTTOMLEFT"}
    return [] if page is None else [{"page_no": page, "bbox": box, "charspan": [0, 1]}]
