"""Back, forward, moving between screens, and how columns are laid out; and that the page speaks the public API only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page, Request, expect

from tests.page.conftest import PATIENCE_MS, QUESTION, Watched, ask
from tests.support.processes import ROOT, wait_until
from tests.support.service import Service

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; font-src 'self'"
)
# What may follow: each forbids more than the policy above.
FURTHER = "; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
SCREENS = ("Documents", "Activity", "Admin")


@contextmanager
def _moving_tab(browser: Browser, watched: Watched) -> Iterator[Page]:
    """Open a tab of a user who has nothing against movement, and count the transitions in it."""
    with browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="no-preference") as context:
        context.set_default_timeout(PATIENCE_MS)
        watched.watch(context)
        page = context.new_page()
        page.add_init_script(
            """window.transitions = [];
            const start = Document.prototype.startViewTransition;
            Document.prototype.startViewTransition = function (swap) {
                const transition = start.call(this, swap);
                window.transitions.push("begun");
                transition.finished.then(() => window.transitions.push("finished"));
                return transition;
            };"""
        )
        yield page
    watched.check()


def _check_screen(page: Page, name: str) -> None:
    expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")
    expect(page).to_have_title(f"{name} · Ask your documents")
    if name != "Ask":
        expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()


def test_back_and_forward_across_screens(page: Page, service: Service, handbook_id: str) -> None:
    page.goto(service.url)
    ask(page, QUESTION)
    page.get_by_role("list", name="Sources").get_by_role("button").first.click()
    expect(page.locator(".mark").first).to_be_visible()
    conversation = page.url
    for name in SCREENS:
        page.get_by_role("link", name=name, exact=True).click()
        _check_screen(page, name)
    page.go_back()
    _check_screen(page, "Activity")
    page.go_back()
    _check_screen(page, "Documents")
    page.get_by_role("button", name="handbook.pdf").first.click()
    expect(page.get_by_role("heading", name="handbook.pdf")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("complementary", name="Document")).to_be_hidden()
    _check_screen(page, "Documents")
    # The answer is there at once, its document open at the same quote.
    page.go_back()
    _check_screen(page, "Ask")
    assert page.url == conversation
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    expect(page.locator(".mark").first).to_be_visible()
    page.go_back()
    expect(page.get_by_role("complementary", name="Document")).to_be_hidden()
    page.go_forward()
    expect(page.locator(".mark").first).to_be_visible()
    page.go_forward()
    _check_screen(page, "Documents")
    page.go_forward()
    expect(page.get_by_role("heading", name="handbook.pdf")).to_be_visible()
    assert handbook_id in page.url
    # A fresh load of such an address shows the same.
    page.reload()
    expect(page.get_by_role("heading", name="handbook.pdf")).to_be_visible()
    expect(page.locator("figure.loaded")).to_be_visible()


def test_screens_change_with_a_transition(browser: Browser, service: Service, watched: Watched) -> None:
    with _moving_tab(browser, watched) as page:
        page.goto(service.url)
        _check_screen(page, "Ask")
        for name in SCREENS:
            page.get_by_role("link", name=name, exact=True).click()
            _check_screen(page, name)
        wait_until(
            lambda: page.evaluate("window.transitions").count("finished") == len(SCREENS), what="the transitions"
        )
        # Who is faster than a transition comes to the last screen all the same.
        page.evaluate("for (const name of ['documents', 'activity', 'ask', 'admin']) location.hash = `#/${name}`")
        _check_screen(page, "Admin")
        expect(page.locator("main > *")).to_have_count(1)


def test_screens_change_at_once_for_who_wants_no_movement(page: Page, service: Service) -> None:
    page.add_init_script("Document.prototype.startViewTransition = () => { throw new Error('movement'); }")
    page.goto(service.url)
    for name in SCREENS:
        page.get_by_role("link", name=name, exact=True).click()
        _check_screen(page, name)


def test_lists_fit_their_column_beside_an_open_document(page: Page, service: Service, handbook_id: str) -> None:
    page.set_viewport_size({"width": 1024, "height": 800})
    page.goto(f"{service.url}#/documents")
    row = page.get_by_role("region", name="List of documents").get_by_role("listitem").filter(has_text="handbook.pdf")

    def below() -> bool:
        """Return True if the state of the document reaches below its buttons."""
        state, buttons = row.locator(".state").bounding_box(), row.locator(".buttons").bounding_box()
        assert state is not None
        assert buttons is not None
        return state["x"] + state["width"] > buttons["x"] + 1

    expect(row).to_be_visible()
    assert not below()
    page.goto(f"{service.url}#/documents?view={handbook_id}&page=1")
    expect(page.locator("figure.loaded")).to_be_visible()
    assert below()
    toolbar = page.locator(".toolbar")
    assert toolbar.evaluate("(node) => node.scrollWidth <= node.clientWidth + 1")


def test_two_tabs_follow_the_same_job(page: Page, service: Service, handbook_id: str) -> None:
    assert handbook_id
    question = f"{QUESTION[:-1]}, in a second tab while it is written?"
    service.model.pause_seconds = 0.3
    try:
        page.goto(service.url)
        ask(page, question)
        expect(page.locator(".answer.writing")).to_contain_text("A full charge")
        other = page.context.new_page()
        other.goto(f"{service.url}#/activity")
        job = other.get_by_role("list", name="Jobs", exact=True).get_by_role("listitem").filter(has_text=question)
        expect(job.locator(".state")).to_have_text("writing")
        job.get_by_role("button", name="Cancel", exact=True).click()
        expect(job.locator(".state")).to_have_text("cancelled")
        # The tab that asked says so.
        expect(page.get_by_text("Stopped. The answer is not complete")).to_be_visible()
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    finally:
        service.model.pause_seconds = 0


def test_every_request_is_of_the_public_api(page: Page, service: Service, handbook_id: str, watched: Watched) -> None:
    asked: list[tuple[str, str]] = []

    def note(request: Request) -> None:
        asked.append((request.method, urlsplit(request.url).path))

    page.context.on("request", note)
    _tour(page, service, handbook_id)
    document = service.client.get("/openapi.json").json()
    known = [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$"))
        for path, methods in document["paths"].items()
        for method in methods
    ]
    # The routes under /v1 are OpenAI's; docs/clients.md lists them.
    compatible = (ROOT / "docs" / "clients.md").read_text()
    files = re.compile(r"/(page/[\w.-]+|docs|favicon.ico)?$")
    unknown = {
        one
        for one in asked
        if not (one[0] == "GET" and files.match(one[1]))
        and not any(one[0] == method and pattern.match(one[1]) for method, pattern in known)
        and not (one[1].startswith("/v1/") and re.search(f"`(GET )?{re.escape(one[1])}`", compatible))
    }
    assert unknown == set()
    assert len({path for _, path in asked}) > 30
    assert watched.errors == []


def _tour(page: Page, service: Service, handbook_id: str) -> None:
    """Do on each screen what makes requests."""
    page.goto(service.url)
    ask(page, f"{QUESTION[:-1]}, on a tour?")
    page.get_by_role("list", name="Sources").get_by_role("button").first.click()
    expect(page.locator(".mark").first).to_be_visible()
    page.get_by_label("Find in the document").fill("battery")
    expect(page.locator(".hit").first).to_be_visible()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("dialog").get_by_role("listitem").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All documents").click()
    page.get_by_role("dialog").get_by_role("listitem").first.wait_for()
    page.keyboard.press("Escape")
    for name in SCREENS:
        page.get_by_role("link", name=name, exact=True).click()
        _check_screen(page, name)
        page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="New endpoint").click()
    page.get_by_label("Address").fill("https://hooks.example/tour")
    page.get_by_role("button", name="Register").click()
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Delete https://hooks.example/tour").click()
    page.get_by_role("link", name="Documents", exact=True).click()
    row = page.get_by_role("listitem").filter(has_text="handbook.pdf")
    row.get_by_role("button", name="More about this document").click()
    with page.expect_response(lambda response: response.url.endswith(f"/uploads/{handbook_id}/reindex")):
        page.get_by_role("button", name="Index again").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_policy_of_the_page(service: Service) -> None:
    answer = service.client.get("/", headers={"Accept": "text/html"})
    assert answer.headers["content-security-policy"] == POLICY + FURTHER
    assert answer.headers["content-type"].startswith("text/html")
    health = service.client.get("/", headers={"Accept": "*/*"})
    assert health.json() == {"status": "Server is up and running", "service": "RAG Query API"}


def test_the_policy_is_kept_by_the_browser(page: Page, service: Service, watched: Watched) -> None:
    watched.expected = ["Content Security Policy", "blob:"]
    page.goto(service.url)
    done = page.evaluate(
        """async () => {
            const script = document.createElement("script");
            script.textContent = "window.hurt = 1";
            document.body.append(script);
            const frame = document.createElement("iframe");
            frame.srcdoc = "<script>parent.hurt = 1</script>";
            document.body.append(frame);
            const away = await fetch("https://elsewhere.example/").then(() => "sent", () => "refused");
            return { hurt: window.hurt ?? null, away };
        }"""
    )
    assert done == {"hurt": None, "away": "refused"}
    watched.foreign.clear()  # the request that the policy refused
    assert httpx.URL(page.url).host == "127.0.0.1"
