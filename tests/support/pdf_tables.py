"""PDF pages with tables whose cells are known, drawn cell by cell, without rulings."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

FONT, SIZE, PITCH = "Helvetica", 9, 13
LEFT, TOP = 60, 760


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: lines above it, header lines as (text, first column, last column), and rows of a label and values.

    `edges` are the right edges of the columns. A label begins two points further right for each space before it.
    """

    edges: Sequence[float]
    rows: Sequence[Sequence[str]]
    headers: Sequence[Sequence[tuple[str, int, int]]] = ()
    above: Sequence[str] = ()
    left: float = LEFT
    dollars: bool = False


def draw(canvas: Canvas, grid: Grid, top: float = TOP) -> float:
    """Draw a table from `top` downwards; return where the next line goes."""
    y = top
    for line in grid.above:
        canvas.drawString(grid.left, y, line)
        y -= PITCH
    for header in grid.headers:
        for text, first, last in header:
            _draw_header(canvas, grid, (text, first, last), y)
        y -= PITCH
    for label, *values in grid.rows:
        canvas.drawString(grid.left + 4 * (len(label) - len(label.lstrip())), y, label.strip())
        for edge, value in zip(grid.edges, values, strict=False):
            # The parenthesis of a negative figure stands outside of the column.
            canvas.drawRightString(edge + (stringWidth(")", FONT, SIZE) if value.endswith(")") else 0), y, value)
            if grid.dollars and value and label.startswith(("Revenue", "Total")):
                canvas.drawString(edge - 45, y, "$")
        y -= PITCH
    return y


def draw_by_columns(canvas: Canvas, grid: Grid) -> None:
    """Draw the labels of a table first, then each column from its header to its end."""
    top = TOP - PITCH * len(grid.headers)
    draw(canvas, Grid((), [row[:1] for row in grid.rows], left=grid.left), top)
    for number in range(len(grid.edges)):
        for place, line in enumerate(grid.headers):
            for header in line:
                if header[1] == number:
                    _draw_header(canvas, grid, header, TOP - PITCH * place)
        draw(canvas, Grid((grid.edges[number],), [("", row[number + 1]) for row in grid.rows]), top)


def draw_turned(canvas: Canvas, grid: Grid) -> None:
    """Draw a table on a page that has to be turned to be read."""
    canvas.translate(0, 842)
    canvas.rotate(-90)
    draw(canvas, grid, 400)


def _draw_header(canvas: Canvas, grid: Grid, header: tuple[str, int, int], y: float) -> None:
    text, first, last = header
    if first == last:
        canvas.drawRightString(grid.edges[first], y, text)
    else:
        canvas.drawCentredString((grid.edges[first] - 30 + grid.edges[last]) / 2, y, text)


def page(*draws: Callable[[Canvas], object]) -> bytes:
    """Return a PDF of one page."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(595, 842), invariant=True)
    canvas.setFont(FONT, SIZE)
    for one in draws:
        one(canvas)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def table_page(*grids: Grid) -> bytes:
    """Return a PDF with tables below each other."""

    def all_grids(canvas: Canvas) -> None:
        y = float(TOP)
        for grid in grids:
            y = draw(canvas, grid, y) - 3 * PITCH

    return page(all_grids)


def text_lines(canvas: Canvas, lines: Sequence[str], *, left: float = LEFT, top: float = TOP) -> None:
    """Draw lines of text."""
    for number, line in enumerate(lines):
        canvas.drawString(left, top - number * PITCH, line)
