"""The images and links of an answer, in every way that a program may read the answer. Fetches nothing."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import unescape
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from rag.text.invisible import strip_invisible
from schemas import Link, Passage

if TYPE_CHECKING:
    from linkify_it import LinkifyIt
    from markdown_it import MarkdownIt

MAX_TEXT_CHARS = 200
# The text of a link is made of at most this many parts of HTML. In deeply nested links, each link contains the text of
# all the others.
MAX_TEXT_PARTS = 40

# Attributes with a URL that a browser opens only when the user asks, and attributes that it never opens.
_FOLLOWED = {("a", "href"), ("area", "href"), ("form", "action"), ("button", "formaction"), ("input", "formaction")}
_NEVER_OPENED = {"alt", "title", "aria-label", "cite", "longdesc", "placeholder", "value"}
_URL_ATTRIBUTES = {
    *("src", "href", "xlink:href", "poster", "data", "background", "action", "formaction", "manifest", "dynsrc"),
    *("lowsrc", "ping", "codebase", "classid", "archive"),
}
_SRCSET_ITEM = re.compile(r"[^\s,]\S*")
_SRCSET_SIZE = re.compile(r"[\d.]+[wxh],?")
_CSS_URL = re.compile(r"(?:url\(\s*|@import\s+)[\"']?([^\"')\s;]+)", re.IGNORECASE)
_REFRESH_URL = re.compile(r"url\s*=\s*[\"']?([^\"'\s>]+)", re.IGNORECASE)
# For URLs that linkify-it does not find: hosts such as IPv6 addresses, and other schemes.
_ANY_SCHEME = re.compile(r"(?<![\w+.-])(?:[a-z][a-z0-9+.-]{1,30}://|www\.)[^\s<>\"'`]+", re.IGNORECASE)
# Each URL contains one of these: a dot before the end of a host or within an IP address, `//`, `@`, `www.`, or `]:`
# before the URL of a reference. Control characters count because a reader of HTML may drop them: `/\x01/`.
_MAY_CONTAIN_URL = re.compile(
    r"\S\.(?:[^\s\d.]{2}|\d{1,3}\.\d)|//|@|www\.|\]:|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", re.IGNORECASE
)
# The signs of links other than bare URLs: HTML, `](`, entities and escapes.
_MARKUP = re.compile(r"[<&\\]|\]\(")
_TRAILING = ".,:;!?)]}*_"
# Each opening quotation mark with the marks that may close it.
_QUOTES = {"“": "”", "„": "“”", "‘": "’", "‚": "‘’", "«": "»", "»": "«", "‹": "›", "›": "‹", "「": "」", "『": "』"}
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
# In CommonMark the URL of an image has no spaces; some programs show such an image all the same.
_OPEN_IMAGE = re.compile(r"!\[[^\]]{0,500}\]\(\s*<?$")
_OPEN_IMAGE_CHARS = 510
# The end of a sentence without a space: `four.It`.
_SENTENCE_END = re.compile(r"\w+\.[A-Z][a-z]+")
_URL_BEFORE = re.compile(r"[\w./:@%-]$")
_URL_AFTER = re.compile(r"[\w/%&=?#+~@$-]|[.,:;!*'(]+[\w/%&=?#+~@$-]")
_LINE_BREAK = re.compile(r"[ \t]*\n[ \t]*")

Kind = Literal["image", "link"]


def find_links(text: str, passages: Sequence[Passage]) -> tuple[Link, ...]:
    """Return every image and link of an answer: in Markdown, in HTML or bare; each URL once for each kind.

    A missing link is worse than a false one. So links in code, in HTML that Markdown would not read as HTML, and in
    slightly wrong Markdown count too.
    """
    plain = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if not _MAY_CONTAIN_URL.search(plain) and not _MARKUP.search(plain):
        return ()
    collector = _LinkCollector(frozenset(passage.chunk.name for passage in passages))
    collector.read_html(_render_markdown(plain))
    if "<" in plain:
        collector.read_html(plain)
    collector.read_text(plain)
    if not collector.links:
        return ()
    texts = [form for passage in passages for form in _readings(passage)]
    return tuple(
        Link(
            kind=kind,
            url=url,
            text=link.text[:MAX_TEXT_CHARS],
            in_sources=any(_contains_url(text, link.literal) for text in texts),
        )
        for (kind, url), link in collector.links.items()
    )


class _Parsers(threading.local):
    """The parsers of bare URLs and of Markdown, one pair for each thread: they keep state between calls.

    They are built on first use. Building takes 0.3 ms and the import 60 ms; processes that only read files save both.
    """

    @cached_property
    def finder(self) -> LinkifyIt:
        from linkify_it import LinkifyIt

        return LinkifyIt()

    @cached_property
    def markdown(self) -> MarkdownIt:
        from markdown_it import MarkdownIt

        markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        markdown.normalizeLink = lambda url: url  # type: ignore[method-assign]
        markdown.validateLink = _accept  # type: ignore[method-assign]  # by default `javascript:` is not a link
        return markdown


_parsers = _Parsers()


@dataclass(frozen=True, slots=True)
class _FoundLink:
    """The text of a link as shown, and its URL exactly as the answer spells it."""

    text: str
    literal: str


@dataclass(slots=True)
class _LinkCollector:
    """The links found so far, in order.

    `names` are names of documents. Part of a name is not a link, even if it reads as one: `handbook.md`.
    """

    names: frozenset[str]
    links: dict[tuple[Kind, str], _FoundLink] = field(default_factory=dict)
    _urls: str = "\n"  # all URLs found, one a line

    def read_html(self, markup: str) -> None:
        """Add the URLs in the attributes, styles and texts of HTML."""
        for element in _elements(markup):
            tag = element.tag if isinstance(element.tag, str) else ""  # comments have none
            for name, value in element.attrib.items():
                self._read_attribute(element, tag, name.lower(), value)
            if tag == "style":
                self._read_style(element.text or "")
            for text in (element.text, element.tail):
                self.read_text(text or "")

    def read_text(self, text: str) -> None:
        """Add the bare URLs of a text, except URLs that are known already."""
        for start, literal, url in _bare_urls(text):
            if url != literal and (self._is_name(literal) or _SENTENCE_END.fullmatch(literal)):
                continue
            if self._is_known(literal) or self._is_known(url) or self._is_known(_ESCAPED.sub(r"\1", unescape(literal))):
                continue
            opened = _OPEN_IMAGE.search(text[max(0, start - _OPEN_IMAGE_CHARS) : start])
            self._add("image" if opened else "link", url, None, literal)

    def _is_name(self, text: str) -> bool:
        return any(text in name for name in self.names)

    def _is_known(self, url: str) -> bool:
        return ("link", url) in self.links or ("image", url) in self.links or url in self._urls

    def _read_attribute(self, element: Any, tag: str, name: str, value: str) -> None:
        if name in _URL_ATTRIBUTES:
            kind: Kind = "link" if (tag, name) in _FOLLOWED else "image"
            self._add(kind, value.strip(), element)
        elif name in {"srcset", "imagesrcset"}:
            for url in _srcset_urls(value):
                self._add("image", url, element)
        elif name == "style":
            self._read_style(value)
        elif name == "srcdoc":
            self.read_html(value)
        elif name == "content":
            for url in _REFRESH_URL.findall(value):
                self._add("image", url, None)
        elif name not in _NEVER_OPENED:
            for _, literal, url in _bare_urls(value):  # for example in a script
                self._add("image", url, None, literal)

    def _read_style(self, style: str) -> None:
        for url in _CSS_URL.findall(style):
            self._add("image", url, None)

    def _add(self, kind: Kind, url: str, element: Any, literal: str = "") -> None:
        """Add a URL with the text of its element; without an element, with the URL as written."""
        if url and not url.startswith("#") and (kind, url) not in self.links:
            self.links[kind, url] = _FoundLink(literal if element is None else _shown_text(element), literal or url)
            self._urls += f"{url}\n"


def _srcset_urls(srcset: str) -> Iterator[str]:
    for item in _SRCSET_ITEM.findall(srcset):
        if not _SRCSET_SIZE.fullmatch(item):
            yield item.rstrip(",")


def _render_markdown(text: str) -> str:
    """Return the HTML of a Markdown text; raw HTML and URLs are not changed."""
    return str(_parsers.markdown.render(text))


def _accept(url: str) -> bool:
    return bool(url)


def _elements(markup: str) -> Iterator[Any]:
    """Yield the elements and comments of HTML in the order of the text."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", recover=True, huge_tree=True, no_network=True)
    root = etree.fromstring(f"<div>{markup}".encode(), parser)
    return iter(()) if root is None else root.iter()


def _bare_urls(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the offset of each URL in a text, the URL as written, and the URL with a scheme."""
    if not _MAY_CONTAIN_URL.search(text):
        return
    matches = {match.index: match for match in _parsers.finder.match(text) or []}
    for match in matches.values():
        closing = _closing_quote(text, match.index, match.raw)
        yield match.index, match.raw.removesuffix(closing), match.url.removesuffix(closing)
    for match in _ANY_SCHEME.finditer(text):
        if match.start() not in matches:
            url = match[0].rstrip(_TRAILING)
            url = url.removesuffix(_closing_quote(text, match.start(), url))
            yield match.start(), url, url


def _closing_quote(text: str, start: int, url: str) -> str:
    """Return the last character of a URL if it closes a quotation mark right before the URL; else an empty text."""
    closing = _QUOTES.get(text[start - 1 : start], "")
    return url[-1] if url[-1:] in closing else ""


def _shown_text(element: Any) -> str:
    """Return the text that a program shows for an element, in place of the URL."""
    alt = element.get("alt") or element.get("title")
    if alt and element.tag != "a":
        return str(alt)
    texts = (text for part in element.iter() for text in (part.get("alt") or "", part.text or "", _tail(part, element)))
    return " ".join("".join(islice(texts, MAX_TEXT_PARTS)).split())


def _tail(part: Any, element: Any) -> str:
    return "" if part is element else part.tail or ""


def _readings(passage: Passage) -> Iterable[str]:
    """Return the passage's text as stored, as the model saw it and with joined lines; and the name of its document."""
    visible = strip_invisible(passage.chunk.text)
    return dict.fromkeys((passage.chunk.text, visible, _LINE_BREAK.sub("", visible), passage.chunk.name))


def _contains_url(text: str, url: str) -> bool:
    """Return True if a text contains the whole URL, not only as a part of a longer URL."""
    at = text.find(url)
    while at >= 0:
        if not _URL_BEFORE.search(text[max(0, at - 1) : at]) and not _URL_AFTER.match(text, at + len(url)):
            return True
        at = text.find(url, at + 1)
    return False
