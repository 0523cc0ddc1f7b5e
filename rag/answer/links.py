"""The images and links of an answer, as whatever shows it might understand them. Nothing here fetches anything."""

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

LONGEST_TEXT = 200
# Of the words of a link at most so many pieces are looked at: links in links in links are all each other's words.
MAX_PIECES = 40

# Of all in HTML that holds a URL, what a browser follows only when asked to, and what it does nothing with.
_FOLLOWED = {("a", "href"), ("area", "href"), ("form", "action"), ("button", "formaction"), ("input", "formaction")}
_SHOWN = {"alt", "title", "aria-label", "cite", "longdesc", "placeholder", "value"}
_ADDRESSES = {
    *("src", "href", "xlink:href", "poster", "data", "background", "action", "formaction", "manifest", "dynsrc"),
    *("lowsrc", "ping", "codebase", "classid", "archive"),
}
_CANDIDATE = re.compile(r"[^\s,]\S*")
_SIZE = re.compile(r"[\d.]+[wxh],?")
_IN_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?([^\"')\s;]+)", re.IGNORECASE)
_REFRESH = re.compile(r"url\s*=\s*[\"']?([^\"'\s>]+)", re.IGNORECASE)
# For hosts that the search for bare links does not know, such as IPv6 addresses, and any other scheme.
_ANY_SCHEME = re.compile(r"(?<![\w+.-])(?:[a-z][a-z0-9+.-]{1,30}://|www\.)[^\s<>\"'`]+", re.IGNORECASE)
_MAY_HOLD_ONE = re.compile(r"\w\.\w|//|@|:")
# What a link or an image takes beside a bare URL, and what may spell one: HTML, `](`, entities and escapes.
_MARKUP = re.compile(r"[<&\\]|\]\(")
_AT_THE_END = ".,:;!?)]}*_"
_QUOTES = {"“": "”", "„": "“”", "‘": "’", "‚": "‘’", "«": "»", "»": "«", "‹": "›", "›": "‹", "「": "」", "『": "』"}
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
# An image with spaces in its address is none in CommonMark, but some show it.
_OPEN_IMAGE = re.compile(r"!\[[^\]]{0,500}\]\(\s*<?$")
_LOOK_BACK = 510
# Where a sentence ends without a space: `four.It`.
_SENTENCE_END = re.compile(r"\w+\.[A-Z][a-z]+")
_BEFORE = re.compile(r"[\w./:@%-]$")
_GOES_ON = re.compile(r"[\w/%&=?#+~@$-]|[.,:;!*'(]+[\w/%&=?#+~@$-]")
_WRAPPED = re.compile(r"[ \t]*\n[ \t]*")

Kind = Literal["image", "link"]


def find_links(text: str, passages: Sequence[Passage]) -> tuple[Link, ...]:
    """Return every image and link that `text` holds, as Markdown, as HTML or bare, each URL of a kind once.

    Rather one too many than one too few: also those in code, in HTML that Markdown would not take for HTML, and in
    Markdown that is not quite right.
    """
    plain = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if not _MAY_HOLD_ONE.search(plain) and not _MARKUP.search(plain):
        return ()
    found = _Finds(frozenset(passage.chunk.name for passage in passages))
    found.read_html(_rendered(plain))
    if "<" in plain:
        found.read_html(plain)
    found.read_text(plain)
    if not found.said:
        return ()
    texts = [form for passage in passages for form in _forms(passage)]
    return tuple(
        Link(
            kind=kind,
            url=url,
            text=one.words[:LONGEST_TEXT],
            in_sources=any(_stands(one.literal, text) for text in texts),
        )
        for (kind, url), one in found.said.items()
    )


class _Tools(threading.local):
    """What finds bare URLs and what renders Markdown: each thread's own, as they keep what they found last.

    Made when first needed: 0.3 ms, and the processes which read files and ask nothing need not import them for 60 ms.
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
        markdown.validateLink = _any  # type: ignore[method-assign]  # else `javascript:` were none
        return markdown


_tools = _Tools()


@dataclass(frozen=True, slots=True)
class _Said:
    """What an answer says of a URL: the words of the link, and the URL letter by letter."""

    words: str
    literal: str


@dataclass(slots=True)
class _Finds:
    """What was found so far, in order. `names` of documents are no links, whatever they end in."""

    names: frozenset[str]
    said: dict[tuple[Kind, str], _Said] = field(default_factory=dict)
    _known: str = "\n"

    def read_html(self, markup: str) -> None:
        """Add what stands in the attributes, styles and texts of HTML."""
        for element in _elements(markup):
            tag = element.tag if isinstance(element.tag, str) else ""  # comments have none
            for name, value in element.attrib.items():
                self._read_attribute(element, tag, name.lower(), value)
            if tag == "style":
                self._read_style(element.text or "")
            for text in (element.text, element.tail):
                self.read_text(text or "")

    def read_text(self, text: str) -> None:
        """Add the URLs that stand in a text as such, but those that are known."""
        for start, literal, url in _bare(text):
            if url != literal and (self._is_name(literal) or _SENTENCE_END.fullmatch(literal)):
                continue
            if self._knows(literal) or self._knows(url) or self._knows(_ESCAPED.sub(r"\1", unescape(literal))):
                continue
            opened = _OPEN_IMAGE.search(text[max(0, start - _LOOK_BACK) : start])
            self._add("image" if opened else "link", url, None, literal)

    def _is_name(self, text: str) -> bool:
        return any(text in name for name in self.names)

    def _knows(self, url: str) -> bool:
        return ("link", url) in self.said or ("image", url) in self.said or url in self._known

    def _read_attribute(self, element: Any, tag: str, name: str, value: str) -> None:
        if name in _ADDRESSES:
            kind: Kind = "link" if (tag, name) in _FOLLOWED else "image"
            self._add(kind, value.strip(), element)
        elif name in {"srcset", "imagesrcset"}:
            for url in _candidates(value):
                self._add("image", url, element)
        elif name == "style":
            self._read_style(value)
        elif name == "srcdoc":
            self.read_html(value)
        elif name == "content":
            for url in _REFRESH.findall(value):
                self._add("image", url, None)
        elif name not in _SHOWN:
            for _, literal, url in _bare(value):  # such as a script's
                self._add("image", url, None, literal)

    def _read_style(self, style: str) -> None:
        for url in _IN_STYLE.findall(style):
            self._add("image", url, None)

    def _add(self, kind: Kind, url: str, element: Any, literal: str = "") -> None:
        """Note a URL with the words of its element; without one, they are the URL itself where it stands in a text."""
        if url and not url.startswith("#") and (kind, url) not in self.said:
            self.said[kind, url] = _Said(literal if element is None else _words(element), literal or url)
            self._known += f"{url}\n"


def _candidates(srcset: str) -> Iterator[str]:
    for candidate in _CANDIDATE.findall(srcset):
        if not _SIZE.fullmatch(candidate):
            yield candidate.rstrip(",")


def _rendered(text: str) -> str:
    """Return the HTML of a Markdown text, with its raw HTML and with each URL as it stands."""
    return str(_tools.markdown.render(text))


def _any(url: str) -> bool:
    return bool(url)


def _elements(markup: str) -> Iterator[Any]:
    """Yield the elements and comments of HTML in order."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", recover=True, huge_tree=True, no_network=True)
    root = etree.fromstring(f"<div>{markup}".encode(), parser)
    return iter(()) if root is None else root.iter()


def _bare(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield where each URL stands in a text, as it stands there, and with a scheme."""
    if not _MAY_HOLD_ONE.search(text):
        return
    met = {match.index: match for match in _tools.finder.match(text) or []}
    for match in met.values():
        closing = _closing(text, match.index, match.raw)
        yield match.index, match.raw.removesuffix(closing), match.url.removesuffix(closing)
    for found in _ANY_SCHEME.finditer(text):
        if found.start() not in met:
            url = found[0].rstrip(_AT_THE_END)
            url = url.removesuffix(_closing(text, found.start(), url))
            yield found.start(), url, url


def _closing(text: str, start: int, url: str) -> str:
    """Return the quotation mark at the end of a URL that closes one right before it."""
    opened = _QUOTES.get(text[start - 1 : start], "")
    return url[-1] if url[-1:] in opened else ""


def _words(element: Any) -> str:
    """Return what an element shows in place of its URL."""
    alt = element.get("alt") or element.get("title")
    if alt and element.tag != "a":
        return str(alt)
    inner = (word for part in element.iter() for word in (part.get("alt") or "", part.text or "", _tail(part, element)))
    return " ".join("".join(islice(inner, MAX_PIECES)).split())


def _tail(part: Any, element: Any) -> str:
    return "" if part is element else part.tail or ""


def _forms(passage: Passage) -> Iterable[str]:
    """Return what a passage's text may be read as: as stored, as the model saw it, and with broken lines joined."""
    seen = strip_invisible(passage.chunk.text)
    return dict.fromkeys((passage.chunk.text, seen, _WRAPPED.sub("", seen), passage.chunk.name))


def _stands(url: str, text: str) -> bool:
    """Tell whether a URL stands in a text as a whole: the head of a longer one is another."""
    at = text.find(url)
    while at >= 0:
        if not _BEFORE.search(text[max(0, at - 1) : at]) and not _GOES_ON.match(text, at + len(url)):
            return True
        at = text.find(url, at + 1)
    return False
