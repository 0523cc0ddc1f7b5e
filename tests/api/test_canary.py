"""Leaks: marked texts go into every input, and no log line, error or header may show one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.hostile import one_page, stream
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.processes import PYTHON, RQ, free_port, running, wait_until
from tests.support.webhook_receiver import Receiver, receiving

QUEUES = ["rag_queries", "rag_documents", "rag_webhooks"]
# An upload's name is data that may be shown, but no log needs it.
PLACES = (
    *("question", "conversation", "metadatakey", "metadatavalue", "badkey", "prior", "idempotency"),
    *("file", "filename", "pdf", "answer", "webhookurl", "webhookanswer", "badjson", "garbage"),
    *("bearer", "apikey", "cookie", "requestid", "path", "query", "method", "header"),
)
CANARY = {place: f"Canary{number:02}x{place}" for number, place in enumerate(PLACES)}


class Watched:
    """A running service, with all failures and headers that its clients have received."""

    def __init__(self, api: httpx.Client, folder: Path) -> None:
        self.api = api
        self._folder = folder
        self._seen: list[str] = []
        self.secrets: list[str] = [KEY]

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self.api.request(method, path, **options)
        self._seen.append(str(response.headers))
        if response.is_error or '"status":"failed"' in response.text:
            self._seen.append(response.text)
        return response

    def end(self, job_id: str) -> dict[str, Any]:
        """Wait for the end of a job and return its result."""
        wait_until(lambda: self.api.get(f"/result/{job_id}?wait=5").status_code == 200, seconds=60, what="the job")
        self.call("GET", f"/job-status/{job_id}")
        return dict(self.call("GET", f"/result/{job_id}").json())

    @property
    def logs(self) -> str:
        files = [*self._folder.rglob("*.log"), *self._folder.rglob("*.jsonl")]
        return "\n".join(path.read_text(errors="replace") for path in files)

    def leaks(self) -> list[str]:
        """List each canary and secret that was found, with its line."""
        lines = [*self.logs.splitlines(), *self._seen]
        marks = [*CANARY.values(), *self.secrets]
        return [f"{mark} in {line[:300]}" for mark in marks for line in lines if mark.lower() in line.lower()]


@contextmanager
def watched(stub: OpenAIStub, folder: Path, valkey_url: str | None, **variables: str) -> Iterator[Watched]:
    """Run `main.py` with all its parts; or, with a URL, the API and a talkative stock worker."""
    use = {
        "DATA_DIR": str(folder / "data"),
        "PORT": str(free_port()),
        "OPENAI_BASE_URL": stub.url,
        "OPENAI_API_KEY": KEY,
        "LOG_LEVEL": "DEBUG",
        "JOB_TIMEOUT_SECONDS": "60" if valkey_url else "8",
        "WEBHOOK_ALLOW_HTTP": "1",
        "WEBHOOK_ALLOW_PRIVATE": "1",
        "AUDIT_LOG": str(folder / "audit.jsonl"),
    } | variables
    commands = {"main": [PYTHON, "main.py"]}
    if valkey_url is not None:
        use |= {"VALKEY_URL": valkey_url, "RQ_REDIS_URL": valkey_url}
        commands = {"api": [PYTHON, "main.py", "api"], "stock": [RQ, "worker", "-v", *QUEUES]}
    with ExitStack() as stack:
        for name, command in commands.items():
            stack.enter_context(running(command, folder / f"{name}.log", **use))
        api = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{use['PORT']}", timeout=20))
        yield Watched(api, folder)


def ready(service: Watched) -> bool:
    with suppress(httpx.TransportError, KeyError):
        return bool(service.api.get("/ready").json()["parts"]["workers"] == "ready")
    return False


def ask(service: Watched, **more: Any) -> dict[str, Any]:
    body = {"query": f"What does {CANARY['question']} say?", "cache": False} | more
    return service.end(service.call("POST", "/chat", json=body).json()["job_id"])


def upload(service: Watched, name: str, data: bytes) -> dict[str, Any]:
    sent = service.call("POST", "/uploads", files={"file": (name, data)})
    assert sent.status_code == 202, sent.text
    service.end(sent.json()["job_id"])
    return dict(service.call("GET", f"/uploads/{sent.json()['upload_id']}").json())


def send_nonsense(service: Watched) -> None:
    """Send requests that are refused before they become jobs."""
    for header in ("Authorization", "X-API-Key", "Cookie"):
        place = {"Authorization": "bearer", "X-API-Key": "apikey", "Cookie": "cookie"}[header]
        for path in ("/nowhere", "/job-status/none"):
            service.call("GET", path, headers={header: f"Bearer {CANARY[place]}"})
    service.call("GET", f"/{CANARY['path']}?q={CANARY['query']}")
    service.call("GET", f"/result/{CANARY['path']}?wait={CANARY['query']}")
    service.call("DELETE", f"/uploads/{CANARY['path']}")
    service.call(CANARY["method"].upper(), "/")
    service.call("POST", "/chat", content=f'{{"query": "{CANARY["badjson"]}')
    service.call("POST", "/chat", content=json.dumps({"query": 7, CANARY["badkey"]: 1}))
    service.call("POST", "/chat", json={"query": "a", "metadata": {CANARY["badkey"]: 7}})
    service.call("POST", "/chat", json={"query": "a", "metadata": {CANARY["badkey"]: "x" * 600}})
    service.call("POST", "/chat", json={"query": "a", "priority": CANARY["prior"], "conversation_id": "%Canary%"})
    service.call("POST", "/chat", json={"query": "a", "webhook_url": f"ftp://{CANARY['webhookurl']}/"})
    service.call("POST", "/uploads", files={"file": (CANARY["filename"], b"\x00\x01" + CANARY["file"].encode())})
    service.call("POST", "/uploads", files={CANARY["badkey"]: b"x"})
    service.call("POST", "/chat", json={"query": "a"}, headers={"Idempotency-Key": f"{CANARY['idempotency']} a"})
    service.call("GET", "/health", headers={"X-Request-ID": f"{CANARY['requestid']} and a space"})
    service.call("GET", "/health", headers={"X-A": CANARY["header"] * 8_000})
    parts = urlsplit(str(service.api.base_url))
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"{CANARY['garbage']}\r\n\r\n".encode())
        assert b" 400 " in connection.recv(65_536)


def use_other_interfaces(service: Watched) -> None:
    """Send texts through /v1 and /mcp: what is accepted, and what is refused."""
    upload(service, "lamp.txt", f"The lamp of {CANARY['file']} turns once in twelve seconds.".encode())
    question, answer = CANARY["question"], {"role": "assistant", "content": CANARY["answer"]}
    told = {"instructions": CANARY["prior"], "metadata": {CANARY["metadatakey"]: CANARY["metadatavalue"]}}
    asked = {"model": "rag", "input": [answer, {"role": "user", "content": question}], **told}
    assert service.call("POST", "/v1/responses", json=asked).json()["status"] == "completed"
    messages = [{"role": "system", "content": CANARY["prior"]}, answer, {"role": "user", "content": question}]
    service.call("POST", "/v1/chat/completions", json={"model": "rag", "messages": messages}).raise_for_status()
    form = {"files": {"file": (CANARY["filename"], CANARY["file"].encode())}, "data": {"purpose": "assistants"}}
    file_id = service.call("POST", "/v1/files", **form).json()["id"]
    store = {"name": CANARY["conversation"], "metadata": told["metadata"]}
    path = f"/v1/vector_stores/{service.call('POST', '/v1/vector_stores', json=store).json()['id']}"
    attributes = {CANARY["metadatakey"]: CANARY["metadatavalue"]}
    service.call("POST", f"{path}/files", json={"file_id": file_id, "attributes": attributes}).raise_for_status()
    items = {"items": [{"role": "user", "content": question}]}
    service.call("POST", "/v1/conversations", json=items).raise_for_status()
    for route, body in (
        ("/v1/responses", asked | {"model": CANARY["badkey"]}),
        ("/v1/responses", asked | {"tool_choice": {"type": CANARY["badkey"]}}),
        ("/v1/responses", asked | {"previous_response_id": CANARY["badkey"], CANARY["badkey"]: question}),
        ("/v1/chat/completions", {"model": "rag", "messages": [{"role": CANARY["badkey"], "content": question}]}),
        (
            f"{path}/search",
            {"query": question, "filters": {"type": "eq", "key": CANARY["badkey"], "value": [question]}},
        ),
        (f"{path}/files", {"file_id": CANARY["badkey"]}),
        (f"/v1/conversations/{CANARY['badkey']}/items", items),
    ):
        assert service.call("POST", route, json=body).is_error, route
    for tool, arguments in (("ask", {"question": question}), (CANARY["badkey"], {}), ("upload", {CANARY["badkey"]: 1})):
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        accept = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
        service.call("POST", "/mcp", json=call, headers=accept)


def run_jobs(service: Watched, stub: OpenAIStub, receiver: Receiver, *, late: bool) -> None:
    """Run jobs that succeed and jobs that fail; with `late`, also a job that times out."""
    made = service.api.post("/webhooks", json={"url": f"{receiver.url}/{CANARY['webhookurl']}"}).json()
    service.secrets += [made["secret"], service.api.get("/webhooks/secret").json()["secret"]]
    receiver.body = CANARY["webhookanswer"].encode()
    receiver.answer = lambda _: (500, {})
    text = f"The word {CANARY['file']} is said of the lamp. ".encode() * 20
    assert upload(service, f"{CANARY['filename']}.txt", text)["status"] == "ready"
    page = stream(b"BT /A 12 Tf (" + CANARY["pdf"].encode() + b") Tj ( \\udc00 Q Q Q " + b"q " * 9_000)
    upload(service, "hostile.pdf", one_page(page))
    assert upload(service, "garbage.pdf", b"%PDF-1.4\n" + CANARY["pdf"].encode() * 50)["status"] == "failed"
    stub.behaviour.answer = f"It says {CANARY['answer']} [1]."
    more = {
        "conversation_id": CANARY["conversation"],
        "metadata": {CANARY["metadatakey"]: CANARY["metadatavalue"]},
        "webhook_url": f"{receiver.url}/{CANARY['webhookurl']}?token={CANARY['webhookurl']}",
    }
    assert ask(service, **more)["status"] == "completed"
    wait_until(lambda: len(receiver.received) >= 3, seconds=40, what="the webhooks")
    stub.behaviour.echo_key_in_errors = stub.behaviour.echo_request_in_errors = True
    for status in (400, 422):
        stub.behaviour.always_fail = status
        assert ask(service)["status"] == "failed"
    stub.behaviour.always_fail, stub.behaviour.chat_delay_seconds = None, 10.0
    if late:
        assert ask(service)["status"] == "failed"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["main.py, json", "main.py, text", "rq worker -v"])
def test_nothing_that_users_send_leaves_the_service(
    kind: str, stub: OpenAIStub, tmp_path: Path, valkey_url: str
) -> None:
    stock = kind.startswith("rq")
    log_format = "json" if kind.endswith("json") else "text"
    with receiving() as receiver, watched(stub, tmp_path, valkey_url if stock else None, LOG_FORMAT=log_format) as seen:
        wait_until(lambda: ready(seen), seconds=60, what="the start")
        send_nonsense(seen)
        use_other_interfaces(seen)
        run_jobs(seen, stub, receiver, late=not stock)
        wait_until(lambda: seen.logs.count("/chat") >= 5, what="the lines of the requests")
    assert seen.leaks() == []
    assert "upload_added" in (tmp_path / "audit.jsonl").read_text()
    if log_format == "json":
        lines = [json.loads(line) for line in seen.logs.splitlines() if line.startswith("{")]
        asked = next(line for line in lines if line.get("route") == "/chat" and line["status"] == 202)
        ended = [line for line in lines if line.get("job_id") == asked["job_id"] and line.get("outcome")]
        assert {"request_id", "method", "ms"} <= set(asked)
        assert [(line["queue"], line["attempt"], line["outcome"]) for line in ended] == [("rag_queries", 1, "finished")]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("stock", [False, True], ids=["main.py", "rq worker -v"])
def test_content_is_logged_only_with_log_content_and_secrets_never(
    stock: bool, stub: OpenAIStub, tmp_path: Path, valkey_url: str
) -> None:
    with watched(stub, tmp_path, valkey_url if stock else None, LOG_CONTENT="1", LOG_LEVEL="INFO") as service:
        wait_until(lambda: ready(service), seconds=60, what="the start")
        stub.behaviour.answer = f"It says {CANARY['answer']} [1]."
        assert upload(service, "a.txt", b"The lamp turns once in twelve seconds. " * 20)["status"] == "ready"
        question = f"How often does the lamp turn, {CANARY['question']}, Bearer {KEY}?"
        assert ask(service, query=question)["status"] == "completed"
        wait_until(lambda: CANARY["answer"] in service.logs, what="the answer in the log")
    assert CANARY["question"] in service.logs
    assert KEY not in service.logs
