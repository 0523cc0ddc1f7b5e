"""Asking in the page: the answer as it is written, its sources, and what is said when there is no answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.page.conftest import QUESTION, Watched, ask
from tests.support.openai_stub import Behaviour, serving
from tests.support.processes import wait_until
from tests.support.service import Service

CUTS = 10


def test_a_newcomer_tries_the_sample(page: Page, service: Service) -> None:
    _delete_all(service)
    page.goto(service.url)
    page.get_by_role("button", name="Try the sample").click()

    # The handbook is sent and indexed, and its question is asked.
    expect(page.get_by_role("heading", name=QUESTION)).to_be_visible()
    source = page.get_by_role("list", name="Sources").get_by_role("button").first
    expect(source).to_contain_text("handbook.pdf page 2 (4 of the file)")

    # The address names the conversation: a reload shows it again.
    page.get_by_role("button", name="Source 1").first.click()
    expect(page.get_by_role("heading", name="handbook.pdf")).to_be_visible()
    expect(page.locator(".mark").first).to_be_visible()


@pytest.mark.usefixtures("handbook_id")
def test_an_answer_shows_what_supports_it_and_what_does_not(page: Page, service: Service) -> None:
    page.goto(service.url)
    ask(page, QUESTION)

    answer = page.locator(".answer")
    expect(answer.get_by_role("button", name="Source 1: handbook.pdf, page 2")).to_have_count(2)
    expect(answer.locator("strong")).to_have_text("three hours and twenty minutes")
    expect(page.get_by_text("1 citation removed: the source does not support the sentence.")).to_be_visible()
    expect(answer.get_by_text("no source")).to_have_count(2)

    # Nothing of an answer is fetched by itself, and a link shows first where it leads.
    expect(answer.locator("img, a")).to_have_count(0)
    answer.get_by_role("button", name="the maker").click()
    expect(page.get_by_role("dialog")).to_contain_text("https://maker.example/lamp")
    expect(page.get_by_role("link", name="Open", exact=True)).to_have_attribute("rel", "noopener noreferrer")
    page.go_back()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.usefixtures("handbook_id")
def test_follow_ups_stay_in_the_conversation(page: Page, service: Service) -> None:
    page.goto(service.url)
    ask(page, QUESTION)
    expect(page.get_by_role("list", name="Sources")).to_have_count(1)
    page.get_by_role("list", name="Sources").get_by_role("button").first.click()
    expect(page.get_by_role("complementary", name="Document")).to_be_visible()
    ask(page, "And when does the ring turn green?")
    expect(page.get_by_role("list", name="Sources")).to_have_count(2)

    # Back closes the document, forward opens it again; the conversation stays.
    page.go_back()
    expect(page.get_by_role("complementary", name="Document")).to_be_hidden()
    page.go_forward()
    expect(page.get_by_role("complementary", name="Document")).to_be_visible()
    expect(page.locator(".question")).to_have_count(2)


@pytest.mark.usefixtures("handbook_id")
def test_stop_ends_an_answer(page: Page, service: Service, model: Behaviour) -> None:
    model.pause_seconds = 0.3
    page.goto(service.url)
    ask(page, "How is the lamp charged, at length?")
    expect(page.locator(".answer")).to_contain_text("A full charge")
    # The button stays the same while words arrive: a click is a press and a release on one element.
    stop = page.get_by_role("button", name="Stop").element_handle()
    expect(page.locator(".answer")).to_contain_text("twenty minutes")
    assert stop.evaluate("(button) => button.isConnected")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


@pytest.mark.usefixtures("handbook_id")
def test_a_failed_answer_says_what_to_do(page: Page, service: Service, model: Behaviour) -> None:
    model.always_fail = 401
    page.goto(service.url)
    ask(page, "How long does a full charge take, if the key is wrong?")
    expect(page.get_by_role("alert")).to_contain_text("OPENAI_API_KEY")

    model.always_fail = None
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()


@pytest.mark.usefixtures("handbook_id")
def test_a_stream_that_is_cut_ten_times_reads_as_one(
    page: Page, service: Service, model: Behaviour, watched: Watched
) -> None:
    model.pause_seconds = 0.02
    watched.expected = ["ERR_INCOMPLETE_CHUNKED_ENCODING"]
    cuts: list[str] = []
    with serving(_cutting(service.url, cuts)) as url:
        watched.host = url.removeprefix("http://")
        page.goto(url)
        body = {"query": "How is the lamp charged in winter?", "cache": False}
        job_id = service.client.post("/chat", json=body).json()["job_id"]
        followed = page.evaluate(
            """async (jobId) => {
                const { follow } = await import("./page/api.js");
                const events = [];
                await follow(jobId, { onEvent: (type, data) => events.push([type, data]) });
                return events;
            }""",
            job_id,
        )
    assert len(cuts) == CUTS
    events = service.client.get(f"/jobs/{job_id}/events").text
    assert [kind for kind, _ in followed] == re.findall(r"^event: (\w+)$", events, re.MULTILINE)
    assert "".join(data["text"] for kind, data in followed if kind == "token") == model.answer


@pytest.mark.usefixtures("handbook_id")
def test_an_answer_reads_as_one_on_the_screen_though_its_stream_is_cut(
    page: Page, service: Service, model: Behaviour, watched: Watched
) -> None:
    model.pause_seconds = 0.05
    watched.expected = ["ERR_INCOMPLETE_CHUNKED_ENCODING"]
    cuts: list[str] = []
    with serving(_cutting(service.url, cuts)) as url:
        watched.host = url.removeprefix("http://")
        page.goto(url)
        page.evaluate(
            """() => {
                window.heard = [];
                window.lost = 0;
                const region = document.querySelector("[aria-live=polite][role=log]");
                const added = (changes) => changes.flatMap((one) => [...one.addedNodes]);
                const note = (changes) => window.heard.push(...added(changes).map((node) => node.textContent));
                new MutationObserver(note).observe(region, { childList: true });
                const status = () => document.querySelector(".status")?.textContent ?? "";
                const look = () => (window.lost += status().includes("lost"));
                const turns = document.querySelector(".turns");
                new MutationObserver(look).observe(turns, { childList: true, subtree: true });
            }"""
        )
        ask(page, "How long does a full charge of the lamp take, on a bad line?")
        expect(page.get_by_role("list", name="Sources")).to_be_visible()
        assert len(cuts) == CUTS
        assert page.evaluate("window.lost") > 0
        expect(page.locator(".status")).to_have_count(0)
        shown, heard = page.locator(".answer").inner_text(), page.evaluate("window.heard")
    # As it looks and sounds on a good line.
    expect(page.locator(".answer p")).to_have_count(3)
    assert shown.count("three hours and twenty minutes") == shown.count("Alessandro Volta") == 1
    assert [text for text in heard if "three hours" in text] == ["A full charge takes three hours and twenty minutes."]
    assert heard[-1].endswith("The answer is complete, with 1 source.")
    assert len(heard) == len(set(heard))


@pytest.mark.usefixtures("handbook_id")
def test_the_page_goes_on_after_a_restart_of_the_api(
    page: Page, service: Service, model: Behaviour, watched: Watched
) -> None:
    watched.expected = ["ERR_"]
    model.pause_seconds = 0.1
    page.goto(service.url)
    ask(page, "How long does a full charge take, after a restart of the API?")
    expect(page.locator(".answer")).to_contain_text("A full charge")
    service.kill("api")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    wait_until(service.is_ready, what="the API")


def _delete_all(service: Service) -> None:
    for upload in service.client.get("/uploads", params={"limit": 500}).json()["uploads"]:
        service.client.delete(f"/uploads/{upload['upload_id']}").raise_for_status()
    wait_until(lambda: not service.client.get("/uploads").json()["uploads"], what="the deletion")


def _cutting(upstream: str, cuts: list[str]) -> Starlette:
    """A proxy that cuts the first ten streams of events, each in the middle of an event."""
    dropped = {"host", "accept-encoding", "origin"}  # the origin of the proxy is not that of the server

    async def forward(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in dropped}
        target = f"{upstream.rstrip('/')}{request.url.path}?{request.url.query}"
        if not request.url.path.endswith("/events"):
            async with httpx.AsyncClient() as client:
                got = await client.request(request.method, target, headers=headers, content=await request.body())
            kept = {
                name: got.headers[name] for name in ("content-type", "content-security-policy") if name in got.headers
            }
            return Response(got.content, got.status_code, kept)
        return StreamingResponse(_cut_stream(target, headers, cuts), media_type="text/event-stream")

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST", "DELETE"])])


async def _cut_stream(target: str, headers: dict[str, str], cuts: list[str]) -> AsyncIterator[bytes]:
    async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", target, headers=headers) as response:
        async for part in response.aiter_bytes():
            if len(cuts) < CUTS and part.count(b"\n\n") > 1:
                cuts.append(target)
                # One event whole, and the beginning of the next.
                yield part[: part.index(b"\n\n") + 12]
                raise ConnectionError("cut")
            yield part
