"""Strings of strangers in names, documents, questions and answers stay text."""

from __future__ import annotations

import json

from playwright.sync_api import Page, Route, expect

from tests.page.hostile_strings import HOSTILE_STRINGS
from tests.support.openai_stub import Behaviour
from tests.support.service import Service

# Elements and attributes that no screen of the page has inside of its content.
FORBIDDEN = (
    "main :is(script, iframe, object, embed, base, link, meta, style, video, audio, marquee, [srcdoc], [style*=url])"
)


def test_each_string_of_an_answer_stays_text(page: Page, service: Service) -> None:
    assert len(HOSTILE_STRINGS) >= 60
    page.goto(service.url)
    shown = page.evaluate(
        """async (strings) => {
            const { showAnswer } = await import("./page/answer.js");
            const source = { n: 1, name: strings[0], page: 1, page_label: "1", quote: "" };
            const safe = /^(https?:|mailto:|#|docs)/;
            return strings.map((text) => {
                const box = document.querySelector("main").appendChild(document.createElement("div"));
                showAnswer(box, `${text} [1]`, { sources: [source], done: true, onCite() {} });
                box.querySelectorAll("button.withheld").forEach((button) => button.click());
                const links = [...document.querySelectorAll("a[href]")].map((link) => link.getAttribute("href"));
                document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
                const attributes = [...box.querySelectorAll("*")].flatMap((node) => [...node.attributes]);
                return {
                    fetched: box.querySelectorAll("img, a, svg").length,
                    unsafe: links.filter((link) => !safe.test(link)).length,
                    handlers: attributes.filter((one) => one.name.startsWith("on")).length,
                };
            });
        }""",
        HOSTILE_STRINGS,
    )
    assert [one for one in shown if any(one.values())] == []
    expect(page.locator(FORBIDDEN)).to_have_count(0)
    assert page.evaluate("window.hurt") is None


def test_strings_in_names_questions_and_documents_stay_text(page: Page, service: Service, model: Behaviour) -> None:
    everything = "\n\n".join(HOSTILE_STRINGS)
    name = '<img src=x onerror="window.hurt=1">.txt'
    upload_id = service.upload(name, f"The password of Wexcombe is swordfish. {everything}".encode())
    model.answer = f"The password of Wexcombe is swordfish [1].\n\n{everything}"
    page.goto(service.url)
    page.get_by_label("Question", exact=True).fill(f"What is the password of Wexcombe? {everything}"[:4000])
    page.keyboard.press("Enter")
    page.get_by_role("list", name="Sources").get_by_role("button").first.click()
    expect(page.locator("rag-viewer")).to_contain_text("onerror")
    expect(page.locator(FORBIDDEN)).to_have_count(0)
    for screen in ("documents", "activity", "admin"):
        page.goto(f"{service.url}#/{screen}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator(FORBIDDEN)).to_have_count(0)
    assert page.evaluate("window.hurt") is None
    service.client.delete(f"/uploads/{upload_id}")


def test_strings_in_lists_stay_text(page: Page, service: Service) -> None:
    def uploads(route: Route) -> None:
        listed = [
            {
                "upload_id": str(n),
                "name": text,
                "error": text,
                "reason": text,
                "status": "failed",
                "bytes": 1,
                "pages_done": 0,
            }
            | {"created_at": "2026-01-01T00:00:00Z", "searched": False, "warnings": [{"page": 1, "reason": text}]}
            for n, text in enumerate(HOSTILE_STRINGS)
        ]
        route.fulfill(content_type="application/json", body=json.dumps({"uploads": listed, "next": None}))

    def jobs(route: Route) -> None:
        listed = [
            {"job_id": str(n), "kind": "chat", "status": "failed", "query": text, "created_at": "2026-01-01T00:00:00Z"}
            for n, text in enumerate(HOSTILE_STRINGS)
        ]
        route.fulfill(content_type="application/json", body=json.dumps({"jobs": listed, "next": None}))

    page.route("**/uploads?*", uploads)
    page.route("**/jobs?*", jobs)
    page.goto(f"{service.url}#/documents")
    expect(page.locator("button.name").first).to_have_text(HOSTILE_STRINGS[0])
    page.get_by_role("button", name="More about this document").first.click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE_STRINGS[0])
    page.goto(f"{service.url}#/activity")
    expect(page.get_by_role("list", name="Jobs", exact=True).get_by_role("listitem")).to_have_count(
        len(HOSTILE_STRINGS)
    )
    expect(page.locator(FORBIDDEN)).to_have_count(0)
    assert page.evaluate("window.hurt") is None
