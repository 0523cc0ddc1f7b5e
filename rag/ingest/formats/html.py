"""The visible text of HTML as blocks; Markdown by way of HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from rag.ingest.formats.blocks import Block, File, one_line
from rag.ingest.formats.encodings import decode
from rag.ingest.formats.html_tables import Cell, Table, blocks_of_table, number_of

_HEADINGS: Final = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_BLOCK_TAGS: Final = _HEADINGS | frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "legend", "li", "main"),
        *("ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul"),
    )
)
_DROPPED_TAGS: Final = frozenset(
    (
        *("script", "style", "template", "noscript", "svg", "iframe", "object", "nav", "select", "datalist", "audio"),
        *("video", "canvas", "annotation", "menu", "rp", "rt"),
    )
)
_DROPPED_ROLES: Final = frozenset(("navigation", "menu", "menubar", "search", "tablist", "toolbar"))
# Words in the class or id of what leads to other pages, as themes and site generators name it.
_NAVIGATION = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|menubar|breadcrumbs?|toc|tableofcontents|skip-?(?:link|to-\w+)|pagination)"
    r"(?:$|[\s_-])",
    re.IGNORECASE,
)
_HIDING = re.compile(
    r"(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?:px|pt|em)?\s*(?:;|!|$))", re.IGNORECASE
)
_TITLE_PART = re.compile(r"(\s+(?:[|·•»–—-]|::)\s+)")
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CSS_RULE = re.compile(r"([^{}]{1,500})\{([^{}]{0,2000})\}")
_CSS_NAME = re.compile(r"^[.#][\w-]+$")
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w:.-]{2,40})""", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w:.-]{2,40})""", re.IGNORECASE)
_CHARSET_BYTES = 4096
# The attribute that Markdown's elements have: their first and last line.
_LINES: Final = "data-lines"
_LINE_RANGE = re.compile(r"(\d{1,9}) (\d{1,9})")
# What the text of a page begins with that is the source of another page.
_SHOWN_SOURCE = re.compile(r"\s*<(?:!doctype html\b|html\b)[^<>]*>\s*(?:<html\b[^<>]*>\s*)?<head\b", re.IGNORECASE)
MAX_START = 100_000
# A longer term of a list of definitions is a paragraph of its own.
MAX_TERM_CHARS: Final = 120


# Values that are pages or parts of pages, such as the description of a product or an article.
_PAGE_PART = re.compile(r"^\s*<(?:!doctype|[a-z][a-z0-9]{0,11})\b[^<>]*>|</(?:p|div|li|h[1-6]|td)>", re.IGNORECASE)


def without_markup(text: str) -> str:
    """Return a value without its tags if it holds HTML, else as it is."""
    if "<" not in text or "</" not in text or not _PAGE_PART.search(text):
        return text
    return "\n".join(block.text for block in html_blocks(text)) or text


def read_html(path: File) -> list[Block]:
    """Return the blocks of an HTML file. A page that shows the source of a page is read as that page."""
    blocks = html_blocks(decode_html(path.read_bytes()))
    is_source = _SHOWN_SOURCE.match("\n".join(block.text for block in blocks[:3]))
    return (html_blocks("\n".join(block.text for block in blocks)) if is_source else []) or blocks


def read_markdown(path: File) -> list[Block]:
    """Return the blocks of a Markdown file."""
    return markdown_blocks(decode(path.read_bytes()))


def markdown_blocks(text: str) -> list[Block]:
    """Return the blocks of a Markdown text, with the lines that they stand on."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text)
    for at, token in enumerate(tokens):
        if token.type == "html_block" and token.map:
            token.content = f'<span {_LINES}="{token.map[0] + 1} {token.map[1]}"></span>{token.content}'
        elif token.map and token.nesting >= 0 and not token.hidden:
            token.attrSet(_LINES, _lines_of(tokens, at))
    return html_blocks(parser.renderer.render(tokens, parser.options, {}), lines_in=_LINES)


def _lines_of(tokens: Sequence[Any], at: int) -> str:
    """Return the first and the last line of a Markdown token. Code keeps its lines; an item ends before its list."""
    token = tokens[at]
    if token.type in {"fence", "code_block"}:
        return f"{token.map[0] + (2 if token.type == 'fence' else 1)} 0"
    inner = tokens[at + 1] if at + 1 < len(tokens) and tokens[at + 1].hidden else token
    first, end = inner.map or token.map
    return f"{first + 1} {end}"


def decode_html(data: bytes) -> str:
    """Return the text of an HTML or XML file in the encoding that the file names, if it names one."""
    head = data[:_CHARSET_BYTES]
    declared = _META_CHARSET.search(head) or _XML_ENCODING.search(head)
    return decode(data, declared=declared[1].decode("ascii", "replace") if declared else "", usual="cp1252")


def html_blocks(markup: str, *, lines_in: str = "") -> list[Block]:
    """Return the visible text of a page in blocks, without navigation. Raises DocumentError for a broken page.

    `lines_in` names the attribute with the lines of an element in the file that the markup was made of.
    """
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except (etree.LxmlError, ValueError, AssertionError):
        return []
    walker = _Walker(_hidden_names(root), lines_in)
    events = etree.iterwalk(root, events=("start", "end"))
    for event, element in events:
        if event == "start":
            if walker.is_dropped(element):
                events.skip_subtree()
                walker.dropped.add(element)
                continue
            walker.start(element)
        elif element in walker.dropped:
            walker.dropped.discard(element)
            walker.add(element.tail)
        else:
            walker.end(element)
            walker.add(element.tail)
    return walker.finish()


def _hidden_names(root: Any) -> frozenset[str]:
    """Return the classes and ids that the page's own style sheets hide, as `.class` and `#id`."""
    names = set()
    for style in root.iter("style"):
        css = _CSS_COMMENT.sub("", style.text or "").partition("@media")[0]
        for selectors, body in _CSS_RULE.findall(css):
            if _HIDING.search(body):
                names |= {one.strip() for one in selectors.split(",") if _CSS_NAME.match(one.strip())}
    return frozenset(names)


class _Walker:
    """Collects blocks while the elements of a page start and end, without recursion: a page may be nested deeply."""

    def __init__(self, hidden_names: frozenset[str], lines_in: str) -> None:
        self.dropped: set[Any] = set()
        self._hidden = hidden_names
        self._lines_in = lines_in
        self._lines: tuple[int, int] | None = None
        self._sinks: list[list[Block]] = [[]]
        self._inline: list[str] = []
        self._tables: list[Table] = []
        self._lists: list[int] = []  # the number of the last item of each open list; -1 in a list without numbers
        self._marker = ""
        self._term: Block | None = None
        self._in_definition = False
        self._pre = 0
        self._in_head = 0
        self._has_title = False

    def is_dropped(self, element: Any) -> bool:
        """Return True for what a reader does not see, and for navigation."""
        # A caption that says the same as its picture is hidden from screen readers alone.
        is_unread = element.get("aria-hidden") == "true" and element.tag != "figcaption"
        if element.tag in _DROPPED_TAGS or "hidden" in element.attrib or is_unread:
            return True
        if element.get("role") in _DROPPED_ROLES or _HIDING.search(element.get("style", "")):
            return True
        names, identity = element.get("class", ""), element.get("id", "")
        if self._hidden and ({f".{name}" for name in names.split()} | {f"#{identity}"}) & self._hidden:
            return True
        if element.tag in {"html", "body", "main", "article"} or not (names or identity):
            return False
        return bool(_NAVIGATION.search(names) or _NAVIGATION.search(identity)) and _is_mostly_links(element)

    def start(self, element: Any) -> None:
        tag = element.tag
        if tag == "br":
            self._inline.append("\n")
        self._has_title = self._has_title or tag == "title"
        if tag in _BLOCK_TAGS:
            self._flush()
        if self._lines_in and (lines := _LINE_RANGE.fullmatch(element.get(self._lines_in, ""))):
            self._lines = int(lines[1]), int(lines[2])
        if tag in {"ul", "ol"}:
            self._lists.append(number_of(element.get("start"), MAX_START) - 1 if tag == "ol" else -1)
        elif tag == "li":
            self._start_item()
        elif tag in {"dt", "dd"}:
            self._in_definition = tag == "dd"
        elif tag == "pre":
            self._pre += 1
        elif tag == "table":
            self._tables.append(Table())
        elif tag in {"thead", "tr", "td", "th", "caption"}:
            self._start_part(element)
        self.add(element.text)

    def _start_item(self) -> None:
        if self._lists and self._lists[-1] >= 0:
            self._lists[-1] += 1
        number = f"{self._lists[-1]}. " if self._lists and self._lists[-1] >= 0 else "- "
        self._marker = "  " * max(0, len(self._lists) - 1) + number

    def _start_part(self, element: Any) -> None:
        if not self._tables:
            return
        table = self._tables[-1]
        if element.tag == "thead":
            self._in_head += 1
        elif element.tag == "tr":
            if self._in_head:
                table.head_rows.add(len(table.rows))
            table.rows.append([])
            table.lines.append(self._lines)
        elif element.tag == "caption":
            self._sinks.append(table.caption)
        else:
            if not table.rows:
                table.rows.append([])
                table.lines.append(self._lines)
            cell = Cell(element)
            table.rows[-1].append(cell)
            self._sinks.append(cell.blocks)

    def end(self, element: Any) -> None:
        tag = element.tag
        if tag in _BLOCK_TAGS:
            self._flush("heading" if tag in _HEADINGS or tag == "title" else "text")
        if tag in {"ul", "ol"} and self._lists:
            self._lists.pop()
        elif tag == "li":
            self._marker = ""
        elif tag in {"dt", "figcaption"}:
            self._note_name(tag)
        elif tag == "pre":
            self._pre -= 1
        elif tag == "thead" and self._tables:
            self._in_head -= 1
        elif tag in {"td", "th", "caption"} and self._tables and len(self._sinks) > 1:
            self._sinks.pop()
        elif tag == "table" and self._tables:
            self._sinks[-1].extend(blocks_of_table(self._tables.pop()))

    def _note_name(self, tag: str) -> None:
        """Note that the last block is a term, which its definition follows, or a caption."""
        last = self._sinks[-1][-1:]
        if last and last[0].kind == "text" and tag == "figcaption":
            self._sinks[-1][-1] = replace(last[0], kind="caption")
        elif last and last[0].kind == "text" and len(last[0].text) <= MAX_TERM_CHARS:
            self._term = last[0]

    def add(self, text: str | None) -> None:
        if text:
            self._inline.append(text if self._pre else re.sub(r"\s+", " ", text))

    def _flush(self, kind: str = "text") -> None:
        text = "".join(self._inline)
        self._inline = []
        lines = self._lines
        if self._pre:
            if lines is not None and not lines[1]:
                lines = lines[0] + len(text) - len(text.lstrip("\n")), 0
            text = text.strip("\n").rstrip()
        else:
            text = "\n".join(one_line(line) for line in text.split("\n")).strip()
        if not text.strip():
            return
        term, self._term = self._term, None
        if kind == "heading":
            block = Block(one_line(text), "heading", lines=lines)
        elif term is not None and self._in_definition and self._sinks[-1][-1:] == [term] and not self._marker:
            self._sinks[-1].pop()
            block = replace(term, text=f"{term.text.rstrip(':')}: {text}")
        elif self._marker:
            block = Block(self._marker + text, "item", lines=lines)
            self._marker = ""
        else:
            block = Block(text, lines=lines)
        self._sinks[-1].append(block)

    def finish(self) -> list[Block]:
        """Return the blocks. The title of the page is left out where a heading says the same."""
        self._flush()
        while self._tables:
            self._sinks[0].extend(blocks_of_table(self._tables.pop(0)))
        blocks = self._sinks[0]
        if self._has_title and blocks and blocks[0].kind == "heading":
            blocks[0] = replace(blocks[0], text=_title(blocks[0].text))
        if blocks and blocks[0].kind == "heading" and any(blocks[0].text == one.text for one in blocks[1:4]):
            return blocks[1:]
        return blocks


def _title(text: str) -> str:
    """Return a title that names each of its parts once: some sites put their name before and behind."""
    parts = _TITLE_PART.split(text)
    seen = {part.casefold() for part in parts[::2]}
    if len(seen) == len(parts[::2]):
        return text
    kept, said = parts[0], {parts[0].casefold()}
    for separator, part in zip(parts[1::2], parts[2::2], strict=True):
        if part.casefold() not in said:
            kept += separator + part
            said.add(part.casefold())
    return kept


def _is_mostly_links(element: Any) -> bool:
    """Return True if at least half of an element's text is the text of links, so that it leads elsewhere."""
    whole = len("".join(element.itertext()).split())
    linked = sum(len("".join(link.itertext()).split()) for link in element.iter("a"))
    return linked >= whole - linked
