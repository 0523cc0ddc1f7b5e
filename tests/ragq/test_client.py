"""The client package against a running service: answers, documents, jobs, and what is done only once."""

from __future__ import annotations

import asyncio
import io
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from ragq import (
    Answer,
    AsyncClient,
    Client,
    JobFailed,
    KeyRefused,
    NotFinished,
    NotFound,
    RateLimited,
    RequestRefused,
    ServerUnreachable,
    TooLarge,
    UnexpectedResponse,
    UploadFailed,
)
from server import create_app
from tests.conftest import MakeSettings
from tests.ragq.conftest import ANSWER, QUESTION, Served
from tests.support.cutting_proxy import CuttingProxy
from tests.support.openai_stub import serving
from tests.support.processes import free_port


def check_answer(answer: Answer) -> None:
    assert answer.text == ANSWER
    assert answer.answered
    (source,) = answer.sources
    assert (source.n, source.name, source.page, source.page_label) == (1, "handbook.pdf", 4, "2")
    assert "twenty minutes" in source.quote
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    assert answer.times["model"] > 0


def test_ask_waits_for_the_answer(client: Client) -> None:
    answer = client.ask(QUESTION, cache=False)
    check_answer(answer)
    assert client.job(answer.job_id).ended
    assert client.result(answer.job_id) == answer
    assert client.ask(QUESTION, name="handbook.pdf", first_page=4, last_page=4).sources[0].page == 4
    listed = next(client.jobs(kind="chat", status="finished"))
    assert listed.query == QUESTION
    assert listed.created_at.tzinfo is not None


def test_the_asynchronous_client_does_the_same(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "async.txt"
    file.write_text("The pilot boat of Brindle Point is called Merganser.")

    async def use() -> None:
        async with AsyncClient(served.url) as client:
            check_answer(await client.ask(QUESTION, cache=False))
            upload = await client.upload(file, wait=True)
            assert (upload.status, upload.name) == ("ready", "async.txt")
            assert upload.upload_id in [one.upload_id async for one in client.uploads()]
            assert QUESTION in [job.query async for job in client.jobs(kind="chat")]
            await client.delete(upload.upload_id)
            with pytest.raises(NotFinished):
                await client.result(await client.submit(QUESTION, cache=False), wait_seconds=0)

    asyncio.run(use())


def test_a_job_that_takes_longer_than_the_caller_waits_goes_on(client: Client, served: Served) -> None:
    served.model.chat_delay_seconds = 1
    job_id = client.submit(QUESTION, cache=False)
    with pytest.raises(NotFinished) as failure:
        client.result(job_id, wait_seconds=0.2)
    assert failure.value.job_id == job_id
    check_answer(client.result(job_id))


def test_a_cancelled_job_has_no_answer(client: Client, served: Served) -> None:
    served.model.chat_delay_seconds = 20
    job_id = client.submit(QUESTION, cache=False)
    assert client.cancel(job_id).status == "cancelled"
    for read in (lambda: client.result(job_id), lambda: list(client.watch(job_id))):
        with pytest.raises(JobFailed) as failure:
            read()
        assert (failure.value.status, failure.value.job_id) == ("cancelled", job_id)


def test_upload_waits_until_questions_find_the_document(client: Client, served: Served) -> None:
    served.model.answer = None  # quotes the first source
    sent: list[tuple[int, int]] = []
    text = b"The harbour dog of Brindle Point is called Biscuit."
    first = client.upload(
        io.BytesIO(text), name="dog.txt", wait=True, on_sent=lambda *so_far: sent.append(so_far), collection="animals"
    )
    assert (first.status, first.searched, first.duplicate) == ("ready", True, False)
    assert sent[-1] == (len(text), len(text))
    again = client.upload(io.BytesIO(text), name="dog.txt", wait=True)
    assert again.upload_id == first.upload_id
    assert client.ask("What is the harbour dog called?", collection="animals").sources[0].name == "dog.txt"


def test_a_document_that_cannot_be_indexed_fails(client: Client) -> None:
    with pytest.raises(UploadFailed) as failure:
        client.upload(io.BytesIO(b"%PDF-1.4\nbroken"), name="broken.pdf", wait=True)
    assert failure.value.upload.reason == "broken"
    assert failure.value.detail.startswith("broken.pdf: ")


def test_a_question_whose_reply_is_lost_makes_one_job(proxy: CuttingProxy) -> None:
    with Client(proxy.url) as client:
        client.me()
        proxy.cuts.extend([0, 0])
        job_id = client.submit("Is a lost reply asked for again?")
        assert proxy.made == 2
        jobs = [job for job in client.jobs(kind="chat") if job.query == "Is a lost reply asked for again?"]
        assert [job.job_id for job in jobs] == [job_id]


def test_a_file_whose_reply_is_lost_is_uploaded_once(proxy: CuttingProxy, tmp_path: Path) -> None:
    file = tmp_path / "lost.txt"
    file.write_text("A reply that is lost. " * 10_000)
    with Client(proxy.url) as client:
        client.me()
        proxy.cuts.append(0)
        upload = client.upload(file, wait=True, on_duplicate="keep")
        assert proxy.made == 1
        assert upload.bytes == file.stat().st_size
        assert [one.upload_id for one in client.uploads(name="lost.txt")] == [upload.upload_id]


def test_the_caller_may_repeat_a_question_with_a_key_of_its_own(client: Client) -> None:
    first = client.submit(QUESTION, idempotency_key="once")
    assert client.submit(QUESTION, idempotency_key="once") == first
    with pytest.raises(RequestRefused) as refusal:
        client.submit("Another question?", idempotency_key="once")
    assert refusal.value.status == 422


def test_an_unknown_job_is_not_found(client: Client) -> None:
    for read in (client.job, client.result, client.cancel, lambda job_id: list(client.watch(job_id))):
        with pytest.raises(NotFound):
            read("01a1fd24-229b-74a9-850a-3c900807816f")


def test_what_the_service_refuses_is_said_in_its_words(client: Client) -> None:
    with pytest.raises(RequestRefused, match="k: Input should be") as refusal:
        client.ask(QUESTION, k=0)
    assert refusal.value.raw["errors"][0]["field"] == "k"


def test_keys_and_limits(make_settings: MakeSettings, valkey_url: str) -> None:
    """The API alone, without workers: nothing that waits ends."""
    settings = make_settings(valkey_url=valkey_url, max_queued_jobs=1, max_upload_mb=1)
    with serving(create_app(settings)) as url:
        made = httpx.post(f"{url}/keys", json={"name": "operator", "scopes": ["admin"]}).json()
        with Client(url) as client, pytest.raises(KeyRefused) as unauthorized:
            client.me()
        assert unauthorized.value.status == 401
        with Client(url, api_key=made["key"], retry_seconds=0) as client:
            assert client.me().is_admin
            with pytest.raises(TooLarge):
                client.upload(io.BytesIO(b"x" * 3_000_000), name="large.txt")
            client.submit(QUESTION)
            with pytest.raises(RateLimited) as limit:
                client.submit(QUESTION)
            assert limit.value.retry_after_seconds


def test_an_absent_server_is_said_at_once() -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(ServerUnreachable, match="no server answers"),
    ):
        client.me()


class Scripted:
    """A server that gives these responses, one after the other, and the last one from then on."""

    def __init__(self, *responses: Response) -> None:
        self._responses = list(responses)
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.requests += 1
        response = self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]
        await response(scope, receive, send)


ME = JSONResponse({"user_id": "local", "key_id": None, "scopes": ["query"], "is_admin": False, "later": 1})


def busy(status: int, retry_after: str | None = None) -> JSONResponse:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return JSONResponse({"title": "Busy", "status": status, "detail": "try again"}, status, headers)


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    in_a_second = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    server = Scripted(busy(429, "1"), busy(503), busy(503, in_a_second), PlainTextResponse("no upstream", 502), ME)
    with serving(server, lifespan="off") as url, Client(url) as client:
        began = time.monotonic()
        caller = client.me()
        assert time.monotonic() - began >= 1
    assert server.requests == 5
    assert (caller.user_id, caller.raw["later"]) == ("local", 1)  # a field of a later release


@pytest.mark.parametrize("refusal", [busy(429, "3600"), busy(500), busy(409, "1")], ids=["an hour", "500", "409"])
def test_a_refusal_that_does_not_pass_soon_is_not_retried(refusal: JSONResponse) -> None:
    server = Scripted(refusal)
    with (
        serving(server, lifespan="off") as url,
        Client(url) as client,
        pytest.raises(RequestRefused, match="try again"),
    ):
        client.me()
    assert server.requests == 1


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (PlainTextResponse("<html>Welcome to nginx"), "not this service"),
        (JSONResponse([]), "not this service"),
        (JSONResponse({"status": "fine"}), "otherwise than this service"),
        (RedirectResponse("https://rag.example/me"), "another address: https://rag.example/me"),
    ],
)
def test_another_server_is_recognized(response: Response, words: str) -> None:
    with (
        serving(Scripted(response), lifespan="off") as url,
        Client(url) as client,
        pytest.raises(UnexpectedResponse, match=words),
    ):
        client.me()
    with serving(Scripted(response), lifespan="off") as url, Client(url) as client, pytest.raises(UnexpectedResponse):
        list(client.watch("01a1fd24-229b-74a9-850a-3c900807816f"))
