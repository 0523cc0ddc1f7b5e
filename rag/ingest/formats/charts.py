"""Charts in PPTX and DOCX: the figures behind them, as a table of categories and series."""

from __future__ import annotations

import datetime
import re
from typing import Any, Final

from errors import DocumentError
from rag.ingest.formats.blocks import Block, one_line
from rag.ingest.formats.package import Package, attribute, child
from rag.ingest.formats.tables import table_blocks

MAX_POINTS: Final = 10_000
# A format of numbers that shows days or years, such as "d/m/yyyy" but not "General" or "#,##0 \"days\"".
_DATE = re.compile(r'^(?:[^"dy]|"[^"]*")*?(?:d{1,4}|yy)', re.IGNORECASE)
_FIRST_DAY, _LAST_DAY = datetime.date(1899, 12, 30), 2_958_466  # the last is 9999-12-31


def charts_of(package: Package, name: str) -> list[Block]:
    """Return the blocks of the part that holds a chart. A damaged chart costs itself."""
    try:
        chart = package.xml(name)
    except DocumentError:
        return []
    return [] if chart is None else chart_blocks(chart)


def chart_blocks(chart: Any) -> list[Block]:
    """Return the title of a chart, and a row for each category with the value of each series."""
    title = child(chart, "chart", "title")
    caption = one_line("".join(element.text or "" for element in title.iter("{*}t"))) if title is not None else ""
    categories: dict[int, str] = {}
    names: list[str] = []
    values: list[dict[int, str]] = []
    for series in chart.iter("{*}ser"):
        named = _points(child(series, "tx"))
        names.append(named.get(0, ""))
        categories |= {**_points(child(series, "cat")), **_points(child(series, "xVal"))}
        values.append({**_points(child(series, "val")), **_points(child(series, "yVal"))})
    numbers = sorted({number for points in values for number in points} | set(categories))
    rows = [[categories.get(n, ""), *(points.get(n, "") for points in values)] for n in numbers]
    return table_blocks([["", *names], *rows], header_rows=1, caption=f"Chart: {caption}" if caption else "Chart")


def _points(element: Any | None) -> dict[int, str]:
    """Return the points of a series by their number, as the file keeps them; of categories in levels, all levels."""
    found: dict[int, str] = {}
    is_date = any(_DATE.search(form.text or "") for form in element.iter("{*}formatCode")) if element is not None else 0
    for point in element.iter("{*}pt") if element is not None else ():
        number, value = attribute(point, "idx") or "", child(point, "v")
        if number.isdecimal() and value is not None and len(found) < MAX_POINTS:
            text = _shown(one_line(value.text or ""), is_date=bool(is_date))
            found[int(number)] = f"{text} {found[int(number)]}" if int(number) in found else text
    if not found and element is not None:
        name = child(element, "v")
        found = {} if name is None else {0: one_line(name.text or "")}
    return found


def _shown(text: str, *, is_date: bool) -> str:
    """Return a number as a chart shows it: without the digits that binary fractions add, and a day as a date."""
    if not text.replace(".", "", 1).lstrip("-").isdecimal():
        return text
    number = float(text)
    if is_date and 0 < number < _LAST_DAY:
        return (_FIRST_DAY + datetime.timedelta(days=int(number))).isoformat()
    return f"{number:.12g}"
