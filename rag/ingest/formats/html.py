"""The visible text of HTML as blocks; Markdown by way of HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from rag.ingest.formats.blocks import Block, File, one_line
from rag.ingest.formats.encodings import decode
from rag.ingest.formats.tables import MAX_CELL_CHARS, MAX_HEADER_CHARS, long_table_blocks, table_blocks

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
# Larger spans count as 1: a page of small cells with large spans would take minutes.
MAX_SPAN, MAX_SPANNED_CELLS = 50, 200
MAX_START = 100_000


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


class _Cell:
    """A cell of a table: its blocks, and how many columns and rows it spans."""

    def __init__(self, element: Any) -> None:
        self.is_header = element.tag == "th"
        self.columns, self.rows = (_number(element.get(name), MAX_SPAN) for name in ("colspan", "rowspan"))
        if self.columns * self.rows > MAX_SPANNED_CELLS:
            self.columns = self.rows = 1
        self.column = 0
        self.blocks: list[Block] = []


class _Table:
    def __init__(self) -> None:
        self.rows: list[list[_Cell]] = []
        self.lines: list[tuple[int, int] | None] = []
        self.head_rows: set[int] = set()
        self.caption: list[Block] = []


class _Walker:
    """Collects blocks while the elements of a page start and end, without recursion: a page may be nested deeply."""

    def __init__(self, hidden_names: frozenset[str], lines_in: str) -> None:
        self.dropped: set[Any] = set()
        self._hidden = hidden_names
        self._lines_in = lines_in
        self._lines: tuple[int, int] | None = None
        self._sinks: list[list[Block]] = [[]]
        self._inline: list[str] = []
        self._tables: list[_Table] = []
        self._lists: list[int] = []  # the number of the last item of each open list; -1 in a list without numbers
        self._marker = ""
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
            self._lists.append(_number(element.get("start"), MAX_START) - 1 if tag == "ol" else -1)
        elif tag == "li":
            self._start_item()
        elif tag == "pre":
            self._pre += 1
        elif tag == "table":
            self._tables.append(_Table())
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
            cell = _Cell(element)
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
        elif tag == "pre":
            self._pre -= 1
        elif tag == "thead" and self._tables:
            self._in_head -= 1
        elif tag in {"td", "th", "caption"} and self._tables and len(self._sinks) > 1:
            self._sinks.pop()
        elif tag == "table" and self._tables:
            self._sinks[-1].extend(_blocks_of(self._tables.pop()))

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
        if kind == "heading":
            block = Block(one_line(text), "heading", lines=lines)
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
            self._sinks[0].extend(_blocks_of(self._tables.pop(0)))
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


def _blocks_of(table: _Table) -> list[Block]:
    cells = [cell for row in table.rows for cell in row]
    texts = {id(cell): " ".join(one_line(block.text) for block in cell.blocks) for cell in cells}
    lays_out = any(block.kind in {"heading", "row"} for cell in cells for block in cell.blocks)
    has_long = any(len(text) > MAX_CELL_CHARS for text in texts.values())
    caption = " ".join(block.text for block in table.caption)
    count = _header_rows(table)
    is_list = all(len(row) <= 1 for row in table.rows)
    if has_long and count and not lays_out and not is_list:
        return [*table.caption, *_long_rows(table, texts, count)]
    if lays_out or has_long or is_list:
        return [*table.caption, *(block for cell in cells for block in cell.blocks)]
    grid = _grid(table.rows, texts, count)
    blocks = table_blocks(grid, header_rows=count or None, caption=caption)
    lines = [where for row, where in zip(grid, table.lines, strict=True) if any(row)]
    if caption and lines:
        lines = [lines[0], *lines]
    lines += lines[-1:] * (len(blocks) - len(lines))  # of the columns without values
    return [replace(block, lines=where) for block, where in zip(blocks, lines, strict=True)]


def _long_rows(table: _Table, texts: dict[int, str], header_rows: int) -> Iterator[Block]:
    grid = _grid(table.rows, texts, header_rows)
    by_column = [{cell.column: cell.blocks for cell in row} for row in table.rows]
    lines = iter(table.lines)
    where = None
    for block in long_table_blocks(grid, by_column, header_rows=header_rows):
        where = next(lines) if block.first else where
        yield replace(block, lines=block.lines or where)


def _header_rows(table: _Table) -> int:
    """Return the number of rows at the top that the page marks as headers."""
    count = 0
    for number, row in enumerate(table.rows):
        if number not in table.head_rows and not (row and all(cell.is_header for cell in row)):
            break
        count += 1
    return count


def _grid(rows: list[list[_Cell]], texts: dict[int, str], header_rows: int) -> list[list[str]]:
    """Put the cells at their columns. A short cell stands in each row that it spans, a header in each column, too.

    A cell that is a row of its own spans all columns, and stands alone.
    """
    grid: list[list[str]] = []
    taken: dict[tuple[int, int], str] = {}
    for number, row in enumerate(rows):
        line: list[str] = []
        for cell in row:
            while (number, len(line)) in taken:
                line.append(taken.pop((number, len(line))))
            text, column = texts[id(cell)], len(line)
            cell.column = column
            alone = len(row) == 1 and not column and cell.rows == 1
            again = text if number < header_rows and not alone else ""
            line += [text, *[again] * (0 if alone else cell.columns - 1)]
            below = text if number < header_rows or len(text) <= MAX_HEADER_CHARS else ""
            for down in range(1, min(cell.rows, len(rows) - number)):
                taken[number + down, column] = below
                for offset in range(1, cell.columns):
                    taken[number + down, column + offset] = again
        while row and (number, len(line)) in taken:
            line.append(taken.pop((number, len(line))))
        grid.append(line)
    return grid


def _number(value: str | None, most: int) -> int:
    """Return an attribute's number between 1 and `most`; 1 without a number."""
    return max(1, min(most, int(value[:9]))) if value and value.isascii() and value.isdigit() else 1
