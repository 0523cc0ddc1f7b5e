"""The lines of a page by kind: running headers and footers, headings, table rows, text."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from schemas import Page

# A running header or footer is searched in this many lines at each end of a page, on this many pages before and after.
EDGE_LINES = 3
NEIGHBOUR_PAGES = 4
# A line at an edge is a running line if this many neighbouring pages have the line at the same edge: two of eight,
# because left and right pages often differ.
MIN_REPEATS = 2
# A number that counts up on this many of the neighbouring pages is the printed number of a page.
MIN_NUMBERED = 3
MAX_RUNNING_CHARS = 120
# A table row has at least this many gaps between cells, or this many figures with this share of its words.
MIN_ROW_GAPS = MIN_ROW_FIGURES = 2
MIN_FIGURE_SHARE = 0.4
MAX_HEADING_CHARS = 90
MAX_HEADING_WORDS = 14
# The title of a page stands in one of its first lines, and is not as long as a line of a paragraph.
TITLE_LINES = 3
MAX_TITLE_SHARE = 0.75
# A title has at least so many words of at least so many letters, each with a capital.
MIN_TITLE_WORDS, MIN_CAPITALIZED_CHARS = 2, 4
# What stands between the title of a table and its rows: a unit or years.
_ABOVE_ROWS = re.compile(
    r"(?:\([^)]*\b)?(?:(?:dollars |amounts )?in [\w$€£]+\b.{0,60}\)?$|.{0,40}\b(?:ended|unaudited)\b)"
    r"|(?:\w{3,9} \d\d?, |fiscal )?(?:19|20)\d\d(?:\D{1,12}\d{1,4})*$",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\r\n]+")
_NUMBER = re.compile(r"\d+")
# Stands for a number in the key of a running line: a line's text has no control characters.
_OFFSET_MARK = "\0"
# A printed number exceeds the number of the page in its file by at most MAX_OFFSET, and a year by MAX_YEAR_OFFSET.
MAX_OFFSET, MAX_YEAR_OFFSET = 2000, 1000
_YEARS = range(1900, 2101)
_PAGE_WORD_BEFORE = re.compile(
    r"(?<![^\W_])(?:(?:pages?|pg|seite|p[aá]gina|p[aá]g|slide|folie|sheet|blatt|side|sida|sivu|strona|strana|str"
    r"|страница|стр|diapositiva|sayfa|halaman|trang)[\s.:#–-]*|[psс]\.\s?|p\s?)$"
)
_PAGE_WORD_AFTER = re.compile(r"^\s?(?:页|頁|ページ|쪽|페이지|\.? ?oldal\b)")
_TOTAL = re.compile(r"^\s?(?:/|of|von|de|di|sur|van|av|из)\s?(\d+)")
# The number is a part of something longer: 3-4, F-12, 3.5, 12th, 5%, #12, $5.
_JOINED_BEFORE = re.compile(r"(?:\w|\w[-–—.,/:'’]|[#$€£§№°:]\s?|^\d+\s[-–—]\s)$")
_JOINED_AFTER = re.compile(r"^(?:\w|[-–—.,/:'’]\w|\s?[%°€]|\s[-–—]\s\d+$)")
# The number begins an item of a list: 3. The buyer, (3) The buyer.
_ITEM_AFTER = re.compile(r"^\s?[.,;:)\]]\s*\S")
_AROUND = " -–—|·•()[]<>~*/"
# What is numbered or counted as pages are: a number after a word for one, or directly before a time, is the word's.
_COUNTED = re.compile(
    r"(?:table|figure|fig|article|art|question|section|sec|chapter|item|part|volume|vol"
    r"|issue|number|no|nos|nr|version|step|lesson|exercise|problem|appendix|annex|exhibit|note|schedule|clause|rule"
    r"|unit|module|level|task|case|example|lecture|session|plate|map|form|lot|invoice|contract|act|scene"
    r"|tabelle|abbildung|abb|artikel|frage|abschnitt|kapitel|punkt|aufgabe|teil|anlage"
    r"|tableau|chapitre|exercice|partie|annexe|tabla|figura|art[ií]culo|pregunta|secci[oó]n|cap[ií]tulo"
    r"|ejercicio|tabella|articolo|domanda|sezione|capitolo)s?"
)
_TIME = re.compile(
    r"(?:week|day|month|year|quarter|hour|wochen?|tage?|semaine|jour|semana|d[ií]a|settimana|giorno)s?"
    r"|january|february|march|april|may|june|july|august|september|october|november|december"
)
_ROMAN = re.compile(r"(?i)^[\s\W]*[ivxlc]{1,7}[\s\W]*$")
_NUMBERED = re.compile(
    r"^(?:(?:chapter|section|part|article|appendix|annex|item|note)\s+[\dIVXA-Z]+\b|\d+(?:\.\d+){0,4}\.?\s+\S)",
    re.IGNORECASE,
)
_CELL_GAP = re.compile(r"(?:\t| {2,}|\s[|]\s)")
_FIGURE = re.compile(r"^[($€£-]*\d[\d.,]*[)%]*$|^[—–-]+$")
_SENTENCE_MARKS = ".!?:;,…"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page that is not blank: the page's text from `start` to `end`, without surrounding white space.

    `marked` says whether the file marks the line as a heading; None where files have no such marks.
    """

    start: int
    end: int
    text: str
    marked: bool | None = None


@dataclass(frozen=True, slots=True)
class _PageEdges:
    """Keys of the first and the last lines of a page. Pages with the same running line have the same key.

    `counting` has the lines that may count the pages: the text before the number, its offset from the page's number,
    and the text after the number.
    """

    top: set[str]
    bottom: set[str]
    counting: set[tuple[str, int, str]]


def lines(text: str) -> Iterator[Line]:
    """Yield the lines of a text that are not blank."""
    for match in _LINE.finditer(text):
        trimmed = match[0].strip()
        if trimmed:
            start = match.start() + match[0].index(trimmed)
            yield Line(start, start + len(trimmed), trimmed)


def body_lines(pages: Iterable[Page]) -> Iterator[tuple[Page, list[Line]]]:
    """Yield each page with its lines, without running headers and footers.

    Holds the next NEIGHBOUR_PAGES pages and the edges of as many previous pages, so that memory does not grow with the
    document. Only the yielded page is held as lines: a page may have half a million lines.
    """
    source = iter(pages)
    ahead = deque((page, _edges(page)) for page in islice(source, NEIGHBOUR_PAGES + 1))
    behind: deque[_PageEdges] = deque(maxlen=NEIGHBOUR_PAGES)
    while ahead:
        page, edges = ahead.popleft()
        if page.headings is None:
            after = [edge for _, edge in ahead]
            found = _without_running_lines(page, list(lines(page.text)), [*behind, *after])
            yield _numbered(page, edges, list(behind), after), found
        else:
            yield page, _marked_lines(page)
        behind.append(edges)
        for following in islice(source, 1):
            ahead.append((following, _edges(following)))


def is_heading(line: Line, before: Line | None, after: Line | None, *, width: int) -> bool:
    """Return True if a line looks like a heading, by its own form and by the lines before and after it.

    `width` is the length of the page's longest line, in characters.
    """
    if line.marked is not None:
        return line.marked
    text = line.text
    words = text.split()
    if len(text) > MAX_HEADING_CHARS or len(words) > MAX_HEADING_WORDS or text[-1] in _SENTENCE_MARKS:
        return False
    if after is None or sum(char.isalpha() for char in text) < len(text.replace(" ", "")) * 0.6:
        return False
    if text[0].islower() or after.text[0].islower() or is_table_row(line):
        return False
    if _NUMBERED.match(text) or (text.isupper() and len(text) > len("ABC")):
        return True
    after_sentence = before is None or before.text[-1] in ".!?:…"
    stands_alone = after_sentence and len(text) <= 0.6 * width and len(after.text) > len(text)
    return stands_alone or _is_title_of_table(line, after)


def title_lines(page_lines: list[Line]) -> list[Line]:
    """Return those of a page's first lines which may be its title: short, and no part of a sentence."""
    width = max(len(line.text) for line in page_lines)
    return [line for line in page_lines[:TITLE_LINES] if _may_be_title(line.text, width)]


def _may_be_title(text: str, width: int) -> bool:
    if len(text) > MAX_HEADING_CHARS or text[0].islower() or text[-1] in _SENTENCE_MARKS:
        return False
    return text.isupper() or len(text) <= MAX_TITLE_SHARE * width


def _is_title_of_table(line: Line, after: Line) -> bool:
    """Return True for words with capitals above a unit, a period or rows: the name of a statement or of a table."""
    words = [word for word in line.text.split() if len(word) >= MIN_CAPITALIZED_CHARS]
    if len(words) < MIN_TITLE_WORDS or not all(word[0].isupper() for word in words) or _ABOVE_ROWS.match(line.text):
        return False
    return is_table_row(after) or _ABOVE_ROWS.match(after.text[:MAX_RUNNING_CHARS]) is not None


def is_table_row(line: Line) -> bool:
    """Return True if a line looks like a row of a table: cells separated by gaps, or many figures."""
    if len(_CELL_GAP.findall(line.text)) >= MIN_ROW_GAPS:
        return True
    words = line.text.split()
    figures = sum(1 for word in words if _FIGURE.match(word))
    return figures >= MIN_ROW_FIGURES and figures >= MIN_FIGURE_SHARE * len(words)


def _marked_lines(page: Page) -> list[Line]:
    """Return the lines of a page of a file that marks its headings, and so has no running lines."""
    headings = frozenset(page.headings or ())
    return [replace(line, marked=line.start in headings) for line in lines(page.text)]


def _edges(page: Page) -> _PageEdges:
    top = list(islice(lines(page.text), EDGE_LINES))
    bottom = list(deque(lines(page.text), maxlen=EDGE_LINES))
    counting = {key for line in (*top, *bottom) for key in _counting_keys(page, line)}
    return _PageEdges(_running_keys(page, top), _running_keys(page, bottom), counting)


def _without_running_lines(page: Page, page_lines: list[Line], neighbours: list[_PageEdges]) -> list[Line]:
    """Drop the running lines from both ends of a page; keep them on a page without other lines."""
    tops = [edges.top for edges in neighbours]
    bottoms = [edges.bottom for edges in neighbours]
    first, end = 0, len(page_lines)
    while first < min(EDGE_LINES, end) and _is_running(page, page_lines[first], tops):
        first += 1
    while end > max(first, len(page_lines) - EDGE_LINES) and _is_running(page, page_lines[end - 1], bottoms):
        end -= 1
    return page_lines[first:end] or page_lines


def _numbered(page: Page, own: _PageEdges, behind: list[_PageEdges], after: list[_PageEdges]) -> Page:
    """Return a page with the number that is printed on it as its label, unless its file gives it another label.

    A label that is the page's number in the file is replaced as well, whether the file has it or not: nobody can tell
    the two apart. The printed number stands in a running line that counts the pages, see `_counts_pages`. A page
    without it, such as the first of a chapter, has the number between those of the pages before and after it.
    """
    if page.label != str(page.number):
        return page
    before, ahead, here = (Counter(key for edge in edges for key in edge.counting) for edges in (behind, after, [own]))
    often = [key for key, count in (before + ahead).items() if count >= MIN_NUMBERED]
    printed = [key for key in often if key in here or (key in before and key in ahead)]
    offsets = {offset for _, offset, _ in printed}
    number = page.number + offsets.pop() if len(offsets) == 1 else page.number
    return page if number < 1 else page.model_copy(update={"label": str(number)})


def _counting_keys(page: Page, line: Line) -> Iterator[tuple[str, int, str]]:
    """Yield a key for each number of a line at an edge that may be the number of the page."""
    if len(line.text) > MAX_RUNNING_CHARS:
        return
    # A wide gap separates a number from a word as a bar does.
    text = " ".join(_CELL_GAP.sub(" | ", line.text.lower()).split())
    for match in _NUMBER.finditer(text):
        if len(match[0]) > len("9999"):
            continue
        number, before, after = int(match[0]), text[: match.start()], text[match.end() :]
        offset = number - page.number
        is_year = number in _YEARS and abs(offset) > MAX_YEAR_OFFSET
        if offset <= MAX_OFFSET and not is_year and _counts_pages(before, number, after):
            yield before, offset, after


def _counts_pages(before: str, number: int, after: str) -> bool:
    """Return True if a number between two parts of a line may be the number of a page.

    The number stands beside a word for page, or is the first or the last thing of the line, apart from the number of
    all pages ("5 of 20"), brackets and dashes. It is no part of something longer, as in "3-4" or "F-12", does not begin
    an item of a list ("3. The buyer"), does not follow a word for what is numbered ("Article 12") and does not stand
    directly before a time ("3 weeks"), though "12 Chapter 3" counts the pages. After a single word, "Fennwick 12", the
    number counts that word unless a bar, a dash or a wide gap is between them; after two or more words, "Fennwick plc
    12", it counts the pages.
    """
    total = _TOTAL.match(after)
    rest = after[total.end() :] if total and number <= int(total[1]) else after
    if _PAGE_WORD_AFTER.match(after):
        return True
    if _JOINED_AFTER.match(rest):
        return False
    if _PAGE_WORD_BEFORE.search(before):
        return True
    if _JOINED_BEFORE.search(before):
        return False
    head, tail = before.rstrip(_AROUND), rest.strip(_AROUND + ".")
    if not head:
        follows = re.match(r" (\w*)", rest)
        return not tail or not (_ITEM_AFTER.match(rest) or (follows and _TIME.fullmatch(follows[1])))
    return not tail and _ends_before_number(head, before[len(head) :])


def _ends_before_number(head: str, gap: str) -> bool:
    """Return True if the words before the last number of a line are complete without the number."""
    if any(bar in gap for bar in "|·•"):
        return True
    words = re.findall(r"\w+", head)
    if not words or _COUNTED.fullmatch(words[-1]) or _TIME.fullmatch(words[-1]):
        return False
    return len(words) > 1 or any(dash in gap for dash in "-–—")


def _is_running(page: Page, line: Line, edges: list[set[str]]) -> bool:
    keys = _running_keys(page, [line])
    return sum(1 for edge in edges if keys & edge) >= MIN_REPEATS


def _running_keys(page: Page, edge: list[Line]) -> set[str]:
    """Return keys for the lines at an edge: their text, and their text with each number replaced by its offset.

    The offset of a number from the page's number is the same on all pages when the line counts the pages. A line of
    nothing but a Roman number has the key `roman`. Lines longer than MAX_RUNNING_CHARS have no keys: each number in a
    line costs a copy of the whole line.
    """
    keys = set()
    for line in edge:
        if len(line.text) > MAX_RUNNING_CHARS:
            continue
        text = " ".join(line.text.lower().split())
        if _NUMBER.search(text) or sum(char.isalpha() for char in text) > 1:
            keys.add(text)
        for number in _NUMBER.finditer(text):
            if len(number[0]) <= len("9999"):
                keys.add(f"{text[: number.start()]}{_OFFSET_MARK}{int(number[0]) - page.number}{text[number.end() :]}")
        if _ROMAN.match(text):
            keys.add("roman")
    return keys
