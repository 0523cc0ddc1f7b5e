"""The page's own helper: signals, effects, keyed lists."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from playwright.sync_api import Page

from tests.support.processes import ROOT
from tests.support.service import Service

MOST_LINES = 150
# What the browser does with the helper; it returns what it saw.
HELPER_PROGRAM = """async () => {
    const { computed, each, effect, h, onCleanup, scope, signal } = await import("./page/reactive.js");
    const settled = () => new Promise((resolve) => setTimeout(resolve));
    const seen = {};

    // An effect runs once for several changes, and no more after its scope has ended.
    const a = signal(1), b = signal(2);
    const sums = [];
    const cleaned = [];
    const [, end] = scope(() => {
        const sum = computed(() => a.value + b.value);
        effect(() => { sums.push(sum.value); onCleanup(() => cleaned.push("run")); });
    });
    a.value = 10; b.value = 20; a.value = 11;
    await settled();
    end();
    a.value = 100;
    await settled();
    Object.assign(seen, { sums, cleaned });

    // An effect follows only what it read the last time.
    const which = signal("a"); let runs = 0;
    scope(() => effect(() => { runs += 1; which.value === "a" ? a.value : b.value; }));
    which.value = "b"; await settled();
    a.value = 0; await settled();
    seen.runs = runs;

    // A list keeps the nodes of the items that stay, in the new order, and ends the scopes of the others.
    const items = signal([{ id: 1 }, { id: 2 }, { id: 3 }]);
    const gone = [];
    const list = h("ul");
    scope(() => each(list, () => items.value, (one) => one.id, (one) => {
        const { id } = one.peek();
        onCleanup(() => gone.push(id));
        return h("li", {}, () => `${one.value.id} ${one.value.text ?? ""}`);
    }));
    const [first, , third] = list.children;
    items.value = [{ id: 3, text: "c" }, { id: 4 }, { id: 1 }];
    await settled();
    seen.kept = list.children[0] === third && list.children[2] === first;
    seen.texts = [...list.children].map((node) => node.textContent.trim());
    seen.gone = gone;

    // Text is never markup.
    seen.children = h("p", { title: '"><b>' }, "<b>x</b>", [null, false, ["y"]], () => "<i>").childElementCount;
    return seen;
}"""


def test_signals_effects_and_keyed_lists(page: Page, service: Service) -> None:
    page.goto(service.url)
    seen = page.evaluate(HELPER_PROGRAM)
    assert seen["sums"] == [3, 31]
    assert seen["cleaned"] == ["run", "run"]
    assert seen["runs"] == 2
    assert seen["kept"]
    assert seen["texts"] == ["3 c", "4", "1"]
    assert seen["gone"] == [2]
    assert seen["children"] == 0


def test_the_page_is_small_and_of_its_own() -> None:
    files = {
        path.name: path.read_text() for path in (ROOT / "page").iterdir() if path.suffix in {".js", ".html", ".css"}
    }
    assert files["reactive.js"].count("\n") <= MOST_LINES
    for name, text in files.items():
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"):
            assert word not in text, (name, word)
    assert _first_load_bytes() <= 50_000


def test_no_module_of_the_first_load_waits_for_another() -> None:
    index = (ROOT / "page" / "index.html").read_text()
    preloaded = re.findall(r'rel="modulepreload" href="page/([\w-]+\.js)"', index)
    assert sorted(preloaded) == sorted(name for name in _first_load() if name.endswith(".js") and name != "early.js")


def _first_load_bytes() -> int:
    """Return the bytes, compressed one by one, of what the first screen and the viewer load."""
    return sum(_first_load().values())


def _first_load() -> dict[str, int]:
    """Return the compressed bytes of each file that the first screen and the viewer load."""
    waiting, sizes = ["index.html", "style.css", "early.js", "app.js", "icon.svg"], dict[str, int]()
    while waiting:
        name = waiting.pop()
        if name in sizes:
            continue
        content = Path(ROOT / "page" / name).read_bytes()
        sizes[name] = len(gzip.compress(content))
        waiting += re.findall(r'^(?:import .*?|\} from )"\./([\w-]+\.js)";$', content.decode(), re.MULTILINE)
    assert "viewer.js" in sizes
    return sizes
