"""Admin in detail: charts that move by themselves, settings in force, users and limits, endpoints that are disabled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.page.conftest import ANSWER, QUESTION, Watched
from tests.support.openai_stub import KEY, Behaviour
from tests.support.processes import wait_until
from tests.support.service import HANDBOOK, Service, service_with_model


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that does two jobs at a time, with limits."""
    variables = {"WORKER_CONCURRENCY": "2", "MAX_QUEUED_JOBS": "50", "TOKENS_PER_DAY": "5000000"}
    with service_with_model(tmp_path_factory.mktemp("admin"), **variables) as started:
        started.model.answer = ANSWER
        started.upload("handbook.pdf", HANDBOOK.read_bytes())
        yield started


@pytest.fixture
def model(service: Service) -> Iterator[Behaviour]:
    yield service.model
    vars(service.model).update(vars(Behaviour()) | {"answer": ANSWER})


def _chart(page: Page, title: str) -> Locator:
    return page.locator("figure").filter(has_text=title)


def _value(chart: Locator) -> int:
    """Return the last value of a chart of one line, as a screen reader hears it."""
    return int((chart.get_by_role("img").get_attribute("aria-label") or "").rpartition(" ")[2])


def test_the_chart_of_the_queue_rises_and_falls_by_itself(page: Page, service: Service, model: Behaviour) -> None:
    page.goto(f"{service.url}#/admin")
    chart = _chart(page, "Jobs that wait or run")
    expect(chart).to_be_visible()
    assert _value(chart) == 0
    model.pause_seconds = 0.5
    body = {"cache": False}
    ids = [
        service.client.post("/chat", json=body | {"query": f"{QUESTION[:-1]}, says {number}?"}).json()["job_id"]
        for number in range(5)
    ]
    wait_until(lambda: _value(chart) >= 3, what="the rise of the queue")
    assert service.client.get("/stats").json()["minutes"][-1]["backlog"] >= 1
    model.pause_seconds = 0
    for job_id in ids:
        service.client.get(f"/result/{job_id}", params={"wait": 60}).raise_for_status()
    wait_until(lambda: _value(chart) == 0, what="the end of the queue")
    answered = service.client.get("/stats").json()["total"]["answered"]
    expect(page.locator(".tile").filter(has_text=re.compile("^Answered")).first).to_contain_text(str(answered))
    rate = page.locator(".tile").filter(has_text="Answers a second").locator("strong")
    assert 0 < float(rate.inner_text()) <= answered / 60
    # A minute has its point, and the latency of this one is drawn.
    latency = _chart(page, "Seconds until the answer").locator("path.s0").get_attribute("d") or ""
    assert "M" in latency


def test_settings_in_force_are_found_and_secrets_are_not_shown(page: Page, service: Service) -> None:
    page.goto(f"{service.url}#/admin")
    settings = page.locator(".settings > div")

    def setting(name: str) -> Locator:
        return settings.filter(has=page.locator("dt").get_by_text(name, exact=True))

    expect(setting("OPENAI_API_KEY").locator("code")).to_have_text("********")
    assert KEY not in page.content()
    expect(setting("MAX_QUEUED_JOBS").locator("code")).to_have_text("50")
    expect(setting("MAX_QUEUED_JOBS").get_by_text("changed")).to_be_visible()
    expect(setting("RESULT_TTL_SECONDS")).to_have_count(0)
    # A search finds the others, too.
    page.get_by_label("Find a setting").fill("result_ttl")
    expect(settings).to_have_count(1)
    shown = {one["name"]: one["value"] for one in service.client.get("/settings").json()["settings"]}
    expect(settings.locator("code")).to_have_text(str(shown["RESULT_TTL_SECONDS"]))
    page.get_by_label("Find a setting").fill("")
    page.get_by_label("changed only").uncheck()
    expect(settings).to_have_count(len(shown))


def test_users_are_shown_with_their_limits(page: Page, service: Service) -> None:
    page.goto(f"{service.url}#/admin")
    user = page.get_by_role("list", name="Users").get_by_role("listitem").filter(has_text="local")
    listed = service.client.get("/users").json()
    (local,) = [one for one in listed["users"] if one["user_id"] == "local"]
    assert listed["limits"]["max_waiting_jobs"] == 50
    expect(user).to_contain_text("1 document")
    expect(user).to_contain_text("0 of 50 waiting")
    expect(user).to_contain_text(f"{local['tokens_today']:,} of 5,000,000 tokens today")
    expect(page.get_by_text("Not limited, since not set:")).to_contain_text("MAX_STORED_MB")


def test_an_endpoint_that_is_disabled_is_enabled(page: Page, service: Service) -> None:
    made = service.client.post("/webhooks", json={"url": "https://hooks.example/off"}).raise_for_status().json()
    enabled: list[str] = []

    def disable(route: Route) -> None:
        told = route.fetch().json()
        for endpoint in told["endpoints"]:
            endpoint["disabled_at"] = None if enabled else "2026-01-01T00:00:00Z"
        route.fulfill(content_type="application/json", body=json.dumps(told))

    page.route("**/webhooks", disable)
    page.on("request", lambda request: enabled.append(request.url) if request.url.endswith("/enable") else None)
    page.goto(f"{service.url}#/admin")
    endpoint = page.get_by_role("listitem").filter(has_text="https://hooks.example/off")
    endpoint.get_by_role("button", name="Enable").click()
    expect(endpoint.get_by_role("button", name="Enable")).to_have_count(0)
    assert enabled == [f"{service.url}webhooks/{made['id']}/enable"]
    endpoint.get_by_role("button", name="Delete https://hooks.example/off").click()
    expect(endpoint).to_have_count(0)
    assert service.client.get("/webhooks").json()["endpoints"] == []


def test_health_names_the_part_that_is_away(page: Page, service: Service, watched: Watched) -> None:
    watched.expected = ["503"]
    page.goto(f"{service.url}#/admin")
    tiles = page.get_by_role("listitem")
    expect(tiles.filter(has_text="Queue (Valkey)").locator(".dot.good")).to_have_count(1)

    def broken(route: Route) -> None:
        told = route.fetch().json()
        told["parts"]["vector_store"] = "unavailable"
        body = {"title": "Unavailable", "status": 503, "detail": "Qdrant does not answer.", "parts": told["parts"]}
        route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(body))

    page.route("**/ready", broken)
    expect(tiles.filter(has_text="Search (Qdrant)").locator(".dot:not(.good)")).to_have_count(1)
    expect(page.get_by_text("Qdrant does not answer.")).to_be_visible()
    page.unroute("**/ready", broken)
    expect(page.get_by_text("Qdrant does not answer.")).to_have_count(0)
