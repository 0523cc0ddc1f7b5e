"""A server with Qdrant's REST interface, on the engine of Qdrant that is embedded: as much of it as the service uses.

It is a process, so that it can be killed, stopped, woken and started again on its data.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from qdrant_client import QdrantClient
from qdrant_edge import SparseVector

from client.qdrant.base import FieldMatch, FieldRange, Hit, Point, PointFilter, VectorQuery
from client.qdrant.embedded import EmbeddedCollections, EmbeddedEngine, _facet
from client.qdrant.points import DENSE_VECTOR
from errors import EmbeddingSizeChanged, NothingIndexed
from tests.support.processes import PYTHON, Running, free_port, running, wait_until


class QdrantServer:
    """A server on a folder, reached at `url`. It starts at once, and again after `kill` with `start`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: Running | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server until the end of the block, or until `kill`."""
        command = [PYTHON, "-m", "tests.support.qdrant_server", str(self._folder / "data"), str(self._port)]
        with running(command, self._folder / "qdrant.log") as process:
            self._process = process
            wait_until(self._answers, what=lambda: f"the Qdrant server: {process.output}")
            try:
                yield
            finally:
                process.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def hang(self) -> None:
        """Accept connections and answer none, until `wake`."""
        assert self._process is not None
        self._process.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        assert self._process is not None
        self._process.process.send_signal(signal.SIGCONT)

    def count(self) -> int:
        """Count the points of all collections."""
        names = [entry["name"] for entry in httpx.get(f"{self.url}/collections").json()["result"]["collections"]]
        counts = [httpx.post(f"{self.url}/collections/{name}/points/count", json={}).json() for name in names]
        return sum(count["result"]["count"] for count in counts)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/collections").is_success
        except httpx.HTTPError:
            return False


class Collections:
    """The collections of a folder. A file beside each collection holds the length of its dense vectors."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: dict[str, EmbeddedEngine] = {}
        self.metadata: dict[str, Any] = {}  # lost when the server is killed
        self.replication: dict[str, dict[str, int]] = {}  # so is this

    def names(self) -> list[str]:
        return [path.name for path in self._folder.glob("*/") if (path / "dimensions").exists()]

    def create(self, name: str, dimensions: int | None) -> None:
        (self._folder / name).mkdir(parents=True)
        (self._folder / name / "dimensions").write_text(str(dimensions or ""))

    def dimensions(self, name: str) -> int | None:
        text = (self._folder / name / "dimensions").read_text()
        return int(text) if text else None

    def remove(self, name: str) -> bool:
        """Remove a collection. Returns False if the collection does not exist."""
        if name not in self.names():
            return False
        if name in self._engines:
            self._engines.pop(name).close()
        shutil.rmtree(self._folder / name)
        return True

    def engine(self, name: str) -> EmbeddedEngine:
        """Return the engine of a collection. Raises HTTPException."""
        if name not in self.names():
            raise HTTPException(404, f"Not found: Collection `{name}` doesn't exist!")
        if name not in self._engines:
            self._engines[name] = EmbeddedCollections(self._folder / name, owner=True).engine(name)
        return self._engines[name]


def make_server(folder: Path) -> FastAPI:
    """Build the server as an ASGI app."""
    app = FastAPI()
    collections = Collections(folder)

    _add_errors(app)

    @app.get("/collections")
    def names() -> Any:
        return _result({"collections": [{"name": name} for name in collections.names()]})

    @app.get("/collections/{name}/exists")
    def exists(name: str) -> Any:
        return _result({"exists": name in collections.names()})

    @app.put("/collections/{name}")
    def create(name: str, body: dict[str, Any]) -> Any:
        if name in collections.names():
            raise HTTPException(409, f"Collection `{name}` already exists!")
        collections.create(name, body.get("vectors", {}).get(DENSE_VECTOR, {}).get("size"))
        if body.get("metadata"):
            collections.metadata[name] = body["metadata"]
        names = ("replication_factor", "write_consistency_factor")
        collections.replication[name] = {key: body[key] for key in names if body.get(key)}
        return _result(data=True)

    @app.delete("/collections/{name}")
    def remove(name: str) -> Any:
        return _result(data=collections.remove(name))

    @app.put("/collections/{name}/index")
    def create_index(name: str) -> Any:
        collections.engine(name)
        return _result({"operation_id": 1, "status": "completed"})

    @app.put("/collections/{name}/points")
    def upsert(name: str, body: dict[str, Any]) -> Any:
        points = [
            Point(point["id"], {key: _vector(value) for key, value in point["vector"].items()}, point["payload"])
            for point in body["points"]
        ]
        collections.engine(name).upsert(points, dimensions=collections.dimensions(name))
        return _result({"operation_id": 1, "status": "completed"})

    _add_metadata(app, collections)
    _add_reads(app, collections)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(NothingIndexed)
    def empty(_request: Request, _error: NothingIndexed) -> JSONResponse:
        return JSONResponse({"status": {"error": "no point was stored yet"}}, 404)

    @app.exception_handler(EmbeddingSizeChanged)
    def other_size(_request: Request, error: EmbeddingSizeChanged) -> JSONResponse:
        got, expected = re.findall(r"\d+", error.detail)[:2]
        text = f"Wrong input: Vector dimension error: expected dim: {expected}, got {got}"  # as Qdrant 1.18 says it
        return JSONResponse({"status": {"error": text}, "time": 0.0}, 400)


def _add_metadata(app: FastAPI, collections: Collections) -> None:
    @app.get("/collections/{name}")
    def describe(name: str) -> Any:
        collections.engine(name)
        description = template()
        description["config"]["metadata"] = collections.metadata.get(name)
        description["config"]["params"] |= collections.replication.get(name, {})
        return _result(description)

    @app.patch("/collections/{name}")
    def update(name: str, body: dict[str, Any]) -> Any:
        collections.engine(name)
        collections.metadata[name] = body["metadata"]
        return _result(data=True)


def _add_reads(app: FastAPI, collections: Collections) -> None:
    @app.post("/collections/{name}/points")
    def retrieve(name: str, body: dict[str, Any]) -> Any:
        found = collections.engine(name).payloads(body["ids"])
        return _result([{"id": key, "payload": payload} for key, payload in found.items()])

    @app.post("/collections/{name}/points/query")
    def query(name: str, body: dict[str, Any]) -> Any:
        [points] = _search(collections.engine(name), [body])
        return _result({"points": points})

    @app.post("/collections/{name}/points/query/batch")
    def query_batch(name: str, body: dict[str, Any]) -> Any:
        return _result([{"points": points} for points in _search(collections.engine(name), body["searches"])])

    @app.post("/collections/{name}/points/scroll")
    def scroll(name: str, body: dict[str, Any]) -> Any:
        where, after = _filter(body.get("filter")), body.get("offset")
        points, following = collections.engine(name).scroll(where, after=after, limit=body["limit"])
        records = [{"id": each.id, "payload": each.payload, "vector": _sent(each.vectors)} for each in points]
        return _result({"points": records, "next_page_offset": following})

    @app.post("/collections/{name}/points/delete")
    def delete(name: str, body: dict[str, Any]) -> Any:
        collections.engine(name).delete(_filter(body["filter"]))
        return _result({"operation_id": 1, "status": "completed"})

    @app.post("/collections/{name}/points/count")
    def count(name: str, body: dict[str, Any]) -> Any:
        return _result({"count": collections.engine(name).count(_filter(body.get("filter")))})

    @app.post("/collections/{name}/facet")
    def facet(name: str, body: dict[str, Any]) -> Any:
        with collections.engine(name).shard.open() as shard:
            hits = _facet(shard, body["key"], _filter(body.get("filter")))
        return _result({"hits": [{"value": value, "count": count} for value, count in hits.items()]})


def template() -> dict[str, Any]:
    """Return the description of a collection, as the local mode of Qdrant's client gives it."""
    client = QdrantClient(":memory:")
    client.create_collection("any", vectors_config={})
    description: dict[str, Any] = client.get_collection("any").model_dump(mode="json")
    return description


def _result(data: Any) -> dict[str, Any]:
    return {"result": data, "status": "ok", "time": 0.0}


def _vector(value: Any) -> list[float] | SparseVector:
    return SparseVector(value["indices"], value["values"]) if isinstance(value, dict) else value


def _sent(vectors: Mapping[str, list[float] | SparseVector]) -> dict[str, Any]:
    return {
        name: {"indices": vector.indices, "values": vector.values} if isinstance(vector, SparseVector) else vector
        for name, vector in vectors.items()
    }


def _query(body: dict[str, Any]) -> VectorQuery:
    query = body["query"]
    vector = _vector(query.get("nearest", query))
    idf = (body.get("params") or {}).get("idf")
    return VectorQuery(
        body["using"],
        vector,
        body["limit"],
        _filter(body.get("filter")),
        None if idf is None else _filter(idf["corpus"]),
        with_vector=bool(body.get("with_vector")),
    )


def _search(engine: EmbeddedEngine, searches: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    found = engine.search([_query(one) for one in searches])
    payloads = engine.payloads([hit.id for hits in found for hit in hits])
    return [[_point(hit, one, payloads) for hit in hits] for hits, one in zip(found, searches, strict=True)]


def _point(hit: Hit, body: dict[str, Any], payloads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    point: dict[str, Any] = {"id": hit.id, "version": 1, "score": hit.score, "payload": dict(payloads[hit.id])}
    if body.get("with_vector"):
        weights = {"indices": list(hit.weights), "values": list(hit.weights.values())}
        point["vector"] = {body["using"]: weights}
    return point


def _filter(body: dict[str, Any] | None) -> PointFilter:
    must = tuple(_condition(one) for one in (body or {}).get("must") or ())
    must_not = tuple(_condition(one) for one in (body or {}).get("must_not") or ())
    return PointFilter(must, tuple(one for one in must_not if isinstance(one, FieldMatch)))


def _condition(body: dict[str, Any]) -> FieldMatch | FieldRange:
    if limits := body.get("range"):
        return FieldRange(body["key"], limits.get("gte"), limits.get("lte"))
    match = body["match"]
    return FieldMatch(body["key"], match["any"] if "any" in match else [match["value"]])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvicorn.run(make_server(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
