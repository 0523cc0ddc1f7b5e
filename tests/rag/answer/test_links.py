"""The images and links of an answer."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from rag.answer import links
from rag.answer.links import find_links
from schemas import Passage
from tests.rag.citations.test_check import passage
from tests.support.injected.orders import WRITINGS
from tests.support.tables import each

IMAGE, LINK = "image", "link"


def kinds_and_urls(text: str, *passages: Passage) -> list[tuple[str, str]]:
    return [(link.kind, link.url) for link in find_links(text, passages)]


ANSWERS = {
    "nothing": ("Tea is served at four [1].", []),
    "empty": ("", []),
    "marks": ("Tea [1][2, 3] is [4].", []),
    "image": ("![tea](https://a.example/t.png 'title')", [(IMAGE, "https://a.example/t.png")]),
    "link": ("[tea](https://a.example/t)", [(LINK, "https://a.example/t")]),
    "citation as a link": ("Tea [[1]](https://a.example/t)", [(LINK, "https://a.example/t")]),
    "in quotation marks": ("See “https://a.example/1”.", [(LINK, "https://a.example/1")]),
    "without a scheme in quotation marks": ("‘www.a.example/2’", [(LINK, "www.a.example/2")]),
    "in the quotation marks of German": ("„ftp://a.example/1“", [(LINK, "ftp://a.example/1")]),
    "with quotation marks of its own": ("https://a.example/“1”", [(LINK, "https://a.example/“1”")]),
    "relative": ("[tea](/jobs/1) ![tea](x.png)", [(LINK, "/jobs/1"), (IMAGE, "x.png")]),
    "to a place in the answer": ("[tea](#tea)", []),
    "references": (
        "[tea][1] and ![cup][c]\n\n[1]: https://a.example/1\n[c]: <https://a.example/a b>",
        [(LINK, "https://a.example/1"), (IMAGE, "https://a.example/a b")],
    ),
    "reference that nothing uses": ("[1]: https://a.example/1", [(LINK, "https://a.example/1")]),
    "script": ("[tea](javascript:alert(1))", [(LINK, "javascript:alert(1)")]),
    "data": ("![tea](data:image/png;base64,AAAA)", [(IMAGE, "data:image/png;base64,AAAA")]),
    "autolink": ("<https://a.example/?q=1&r=2>", [(LINK, "https://a.example/?q=1&r=2")]),
    "bare": ("See (https://a.example/x_(y)), or not.", [(LINK, "https://a.example/x_(y)")]),
    "without a scheme": ("See www.a.example/x and b.com/y?q=1.", [(LINK, "www.a.example/x"), (LINK, "http://b.com/y?q=1")]),
    "mail": ("Write to tea@a.com.", [(LINK, "mailto:tea@a.com")]),
    "address of numbers": ("http://127.0.0.1:8/x http://[::1]/y", [(LINK, "http://127.0.0.1:8/x"), (LINK, "http://[::1]/y")]),
    "other schemes": ("obsidian://open?x=1", [(LINK, "obsidian://open?x=1")]),
    "twice": ("[a](https://a.example) <https://a.example> https://a.example", [(LINK, "https://a.example")]),
    "image and link": (
        "[![a](https://a.example/i)](https://a.example/l)",
        [(LINK, "https://a.example/l"), (IMAGE, "https://a.example/i")],
    ),
    "escapes": (r"[a](https://a.example/a\_b?c&amp;d)", [(LINK, "https://a.example/a_b?c&d")]),
    "code": ("`![a](https://a.example/1)`", [(IMAGE, "https://a.example/1")]),
    "in quotes of quotes": (">" * 40 + "![a](https://a.example/1)", [(IMAGE, "https://a.example/1")]),
    "table": ("| a |\n|---|\n| [b](https://a.example/1) |", [(LINK, "https://a.example/1")]),
    "across lines": ("![a\nb](\nhttps://a.example/1\n)", [(IMAGE, "https://a.example/1")]),
    "HTML": (
        '<img src=//a.example/i><a href="https&#58;//a.example/l">x</a>',
        [(IMAGE, "//a.example/i"), (LINK, "https://a.example/l")],
    ),
    "HTML in HTML": ('<iframe srcdoc="<img src=https://a.example/1>">', [(IMAGE, "https://a.example/1")]),
    "HTML sources": (
        "<img srcset='https://a.example/1 1x, https://a.example/2 2x'>",
        [(IMAGE, "https://a.example/1"), (IMAGE, "https://a.example/2")],
    ),
    "HTML that loads": (
        "<link href=https://a.example/1><base href=https://a.example/2><video poster=https://a.example/3>",
        [(IMAGE, "https://a.example/1"), (IMAGE, "https://a.example/2"), (IMAGE, "https://a.example/3")],
    ),
    "HTML form": ("<form action=https://a.example/1>", [(LINK, "https://a.example/1")]),
    "style": (
        "<style>@import 'https://a.example/1'; b { background: url(https://a.example/2) }</style>",
        [(IMAGE, "https://a.example/1"), (IMAGE, "https://a.example/2")],
    ),
    "NUL and half a character": ("\0 \ud800 ![a](https://a.example/1)", [(IMAGE, "https://a.example/1")]),
    "XML": ("<?xml version='1.0' encoding='utf-16'?><img src='https://a.example/1'>", [(IMAGE, "https://a.example/1")]),
    "end of a sentence": ("Tea is at four.It is green.", []),
}  # fmt: skip


@each("text, expected", ANSWERS)
def test_every_image_and_link_is_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert sorted(kinds_and_urls(text)) == sorted(expected)


PIECES = st.sampled_from(
    [
        *(
            "a",
            "com",
            "de",
            "B",
            "www",
            "ftp",
            "localhost",
            "12",
            "3",
            "[1]",
            "[a]",
            "x--y",
            "☃",
            "例",
            "рф",
            "e.g",
            "U.S",
        ),
        *(
            ".",
            ".",
            ":",
            "/",
            "//",
            "@",
            "]:",
            "[",
            "]",
            "(",
            ")",
            "!",
            "*",
            "**",
            "_",
            "~~",
            "`",
            "```",
            "|",
            "\n",
            "> ",
        ),
        *(
            " ",
            "\t",
            "#",
            "-",
            "---",
            "=",
            "\x01",
            "\x0c",
            "\x7f",
            "\u00a0",
            "\u200b",
            "\ufffe",
            "’",
            "„",
            "“",
            "。",
            "．",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.lists(PIECES, max_size=20).map("".join), st.text(max_size=40)))
def test_an_answer_that_is_not_parsed_has_no_links(text: str) -> None:
    quick = find_links(text, [])
    with patch.object(links, "_MAY_CONTAIN_URL", re.compile("")):  # every text may contain a URL
        assert find_links(text, []) == quick


PLAIN = {"escaped": r"a\.com", "entity": "a&period;com", "entity in a scheme": "https&#58;&#47;&#47;a.com"}


@each("text", PLAIN)
def test_a_link_that_markdown_or_html_decodes_is_found(text: str) -> None:
    assert any("a.com" in url for _, url in kinds_and_urls(text))


def test_threads_do_not_mix_up_their_links() -> None:
    texts = [f"![a](https://a.example/{n}) and b{n}.com" for n in range(200)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(kinds_and_urls, texts)) == [
            [(IMAGE, f"https://a.example/{n}"), (LINK, f"http://b{n}.com")] for n in range(200)
        ]


@each("writing", list(WRITINGS))
@each("around", ["{}", "Tea.\n\n{}\n\nTea.", "> {}", "- {}"])
def test_every_way_to_send_a_secret_is_found_in_every_place(writing: str, around: str) -> None:
    template, kind, url = WRITINGS[writing]
    text, target = (part.replace("{url}", "https://a.example") for part in (template, url))
    if around.startswith((">", "-")):
        text = text.replace("\n", "\n> " if around.startswith(">") else "\n  ")
    assert (kind, target.partition(" of all")[0]) in kinds_and_urls(around.format(text))


def test_a_link_has_the_text_that_it_shows() -> None:
    text = "![a cup](https://a.example/1) [two *words*](https://a.example/2) <a href=/3>x <b>y</b></a> www.a.example"
    assert [link.text for link in find_links(text, [])] == ["a cup", "two words", "x y", "www.a.example"]


IN_SOURCES = {
    "as it is": ("See https://a.example/x, please.", True),
    "at the end": ("https://a.example/x", True),
    "in Markdown": ("[y](https://a.example/x)", True),
    "with unseen characters": ("https://a.exam\u200bple/x", True),
    "broken over lines": ("https://a.exa  \n  mple/x is it", True),
    "longer": ("https://a.example/xyz", False),
    "with a query": ("https://a.example/x?y", False),
    "going on after a mark": ("https://a.example/x.html", False),
    "in another": ("https://b.example/https://a.example/x", False),
    "other host": ("https://b.example/x", False),
    "nowhere": ("Tea is served at four.", False),
}


@each("text, in_sources", IN_SOURCES)
def test_in_sources_is_true_only_for_the_whole_url(text: str, in_sources: bool) -> None:
    [link] = find_links("[a](https://a.example/x)", [passage("Scones."), passage(text)])
    assert link.in_sources is in_sources


def test_the_name_of_a_document_is_not_a_link() -> None:
    cited = "“Tea” [1] (handbook.md, page 1), not cups.md"
    assert kinds_and_urls(cited, passage("Tea.", name="handbook.md")) == [(LINK, "http://cups.md")]


SLOW = {
    "images": "![" * 20_000,
    "links": "[a](" * 20_000,
    "tags": "<" * 50_000,
    "open tags": "<a " * 20_000,
    "nested tags": "<a href=x>" * 5_000,
    "mails": "a@b.com " * 5_000,
    "distinct": "".join(f"![a](http://a.b/{n}) " for n in range(3_000)),
    "quotes": ">" * 20_000,
    "code": "`" * 20_000 + "http://a.b",
}


@each("text", SLOW)
def test_links_of_a_hostile_answer_are_found_in_linear_time(text: str) -> None:
    started = time.process_time()
    find_links(text, [passage("tea " * 500)])
    # It takes under 1 s on an idle machine; a quadratic search would take minutes.
    assert time.process_time() - started < 30
