"""Activity and Admin: what the service does, and how it is."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, Route, expect

from api.routes.index_versions import EarlierIndexView
from tests.page.conftest import QUESTION
from tests.support.openai_stub import Behaviour
from tests.support.processes import wait_until
from tests.support.service import Service
from tests.support.webhook_receiver import receiving


@pytest.mark.usefixtures("handbook_id")
def test_activity_shows_jobs_as_they_go_and_cancels_them(page: Page, service: Service, model: Behaviour) -> None:
    model.pause_seconds = 1.0
    question = "How long does a full charge take, so slowly that somebody cancels it?"
    service.client.post("/chat", json={"query": question}).raise_for_status()
    page.goto(f"{service.url}#/activity")
    job = page.get_by_role("list", name="Jobs", exact=True).get_by_role("listitem").filter(has_text=question)
    expect(job.locator(".state")).to_have_text("writing")
    job.get_by_role("button", name="Cancel", exact=True).click()
    expect(job.locator(".state")).to_have_text("cancelled")

    # A job's name leads to its answer.
    model.pause_seconds = 0
    job.get_by_role("button", name="Ask again", exact=True).click()
    again = page.get_by_role("listitem").filter(has_text=question).filter(has_text="finished")
    again.get_by_role("button", name=question).click()
    expect(page.get_by_role("heading", name=question)).to_be_visible()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()


def test_admin_shows_health_and_registers_webhooks(page: Page, service: Service) -> None:
    page.goto(f"{service.url}#/admin")
    expect(page.get_by_role("listitem").filter(has_text="Workers")).to_contain_text("ready")
    page.get_by_role("button", name="New endpoint").click()
    page.get_by_label("Address").fill("https://hooks.example/rag")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("dialog")).to_contain_text("whsec_")
    page.get_by_role("button", name="Done").click()
    endpoint = page.get_by_role("listitem").filter(has_text="https://hooks.example/rag")
    endpoint.get_by_role("button", name="Delete https://hooks.example/rag").click()
    expect(endpoint).to_have_count(0)


@pytest.mark.usefixtures("handbook_id")
def test_a_failed_job_is_listed_and_tried_again(page: Page, service: Service, model: Behaviour) -> None:
    question = "How long does a full charge take, while the key is wrong?"
    model.always_fail = 401
    failed = service.client.post("/chat", json={"query": question}).json()["job_id"]
    service.client.get(f"/result/{failed}", params={"wait": 30}).raise_for_status()
    model.always_fail = None
    page.goto(f"{service.url}#/activity")
    letter = page.get_by_role("list", name="Failed jobs").get_by_role("listitem").filter(has_text=question)
    expect(letter.locator(".state.failed")).to_contain_text("OPENAI_API_KEY")
    letter.get_by_role("button", name="Try again").click()
    expect(letter).to_have_count(0)
    job = page.get_by_role("list", name="Jobs", exact=True).get_by_role("listitem").filter(has_text=question)
    expect(job.locator(".state")).to_have_text("finished")


@pytest.mark.usefixtures("handbook_id")
def test_deliveries_of_webhooks_are_listed_and_sent_again(page: Page, service: Service) -> None:
    with receiving() as receiver:
        question = {"query": QUESTION, "webhook_url": f"{receiver.url}/done"}
        service.client.post("/chat", json=question).raise_for_status()
        page.goto(f"{service.url}#/activity")
        delivery = page.get_by_role("list", name="Deliveries").get_by_role("listitem").filter(has_text=receiver.url)
        expect(delivery).to_contain_text("delivered, 1 attempt")
        delivery.get_by_role("button", name="Send again").click()
        expect(delivery).to_contain_text("delivered, 2 attempts")
        assert [request.path for request in receiver.received] == ["/done", "/done"]


@pytest.mark.usefixtures("handbook_id")
def test_admin_shows_the_last_hour(page: Page, service: Service) -> None:
    asked = service.client.post("/chat", json={"query": QUESTION}).json()["job_id"]
    service.client.get(f"/result/{asked}", params={"wait": 30}).raise_for_status()
    page.goto(f"{service.url}#/admin")
    total = service.client.get("/stats").json()["total"]
    assert total["answered"] >= 1
    for name, number in (("Asked", total["queued"]), ("Answered", total["answered"]), ("Failed", total["failed"])):
        expect(page.locator(".tile").filter(has_text=name).locator("strong")).to_have_text(str(number))

    # The charts draw the minutes: their highest point and their last value are those that the service counts.
    minutes = service.client.get("/stats").json()["minutes"]
    most = max(max(minute["queued"], minute["answered"], minute["failed"]) for minute in minutes)
    chart = page.locator("figure").filter(has_text="Asked and answered each minute")
    expect(chart).to_contain_text(f"most {most}")
    points = chart.locator("path.s0").get_attribute("d") or ""
    assert len(re.findall("[ML]", points)) == len(minutes) == 60
    assert "NaN" not in points


@pytest.mark.usefixtures("handbook_id")
def test_admin_builds_the_index_again(page: Page, service: Service) -> None:
    page.goto(f"{service.url}#/admin")
    expect(page.get_by_text("Searched: text-embedding-3-small")).to_be_visible()
    page.get_by_role("button", name="Build again").click()
    expect(page.locator(".toast")).to_contain_text("A new index is being built.")
    wait_until(lambda: "building" not in _index(service), what="the end of the build")
    expect(page.get_by_text(re.compile("Being built|Failed:"))).to_have_count(0)
    expect(page.get_by_text("Searched: text-embedding-3-small")).to_be_visible()


def test_admin_lists_earlier_versions_of_the_index(page: Page, service: Service) -> None:
    one = {"model": "nomic-embed-text", "dimensions": 768}
    two = {"model": "text-embedding-3-large", "dimensions": 3072}
    earlier = [
        one | {"status": "kept", "since": "2026-01-05T10:00:00Z"},
        two | {"status": "removing", "since": "2026-01-06T10:00:00Z"},
    ]
    names = set(EarlierIndexView.model_fields)
    assert all(set(version) <= names for version in earlier)

    def add_versions(route: Route) -> None:
        body = route.fetch().json()
        body["index"] = (body["index"] or {}) | {"earlier": earlier}
        route.fulfill(content_type="application/json", body=json.dumps(body))

    page.route("**/ready", add_versions)
    page.goto(f"{service.url}#/admin")
    versions = page.get_by_role("list", name="Earlier versions of the index").get_by_role("listitem")
    expect(versions).to_have_count(2)
    expect(versions.first).to_contain_text("nomic-embed-text, 768 dimensions")
    expect(versions.first).to_contain_text("searched before")
    expect(versions.last).to_contain_text("text-embedding-3-large, 3,072 dimensions")
    expect(versions.last).to_contain_text("being removed")
    # The whole date is told by the tooltip.
    expect(versions.first.locator("time")).to_have_attribute("datetime", "2026-01-05T10:00:00Z")


def _index(service: Service) -> dict[str, object]:
    index = service.client.get("/ready").json()["index"]
    return {name: value for name, value in index.items() if value is not None}
