"""What is asked of pdfium for each object or letter of a page, quickly; where a point of a page is on its picture."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from ctypes import PYFUNCTYPE, c_double, c_int, c_void_p, cast
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium


def direct(function: Any, result: Any) -> Callable[..., Any]:
    """Return a function of pdfium that is called in a quarter of the time, because its arguments are not converted.

    Arguments are c_void_p, pointers and numbers of type int: an address as an int would be cut off.
    """
    return PYFUNCTYPE(result)(cast(function, c_void_p).value or 0)


def numbers(kind: str, count: int) -> tuple[array[Any], list[c_void_p]]:
    """Return an array of numbers for pdfium to write into, and the address of each: arrays of ctypes are read slowly.

    `kind` is that of the module array.
    """
    made = array(kind, [0] * count)
    first = made.buffer_info()[0]
    return made, [c_void_p(first + number * made.itemsize) for number in range(count)]


Box = tuple[float, float, float, float]


def picture_matrix(page: pypdfium2.PdfPage) -> Callable[[float, float, float, float], Box]:
    """Return a function that turns a rectangle of a page, left, bottom, right, top, to its place on the page's picture.

    The place is left, top, right, bottom, in points from the top left corner, whatever the page's rotation and origin.
    """
    width, height = page.get_size()
    unit = 1_000  # pdfium gives whole numbers
    size = int(width * unit), int(height * unit)

    def device(x: float, y: float) -> tuple[float, float]:
        left, top = c_int(), c_int()
        pdfium.FPDF_PageToDevice(page.raw, 0, 0, *size, 0, c_double(x), c_double(y), left, top)
        return left.value / unit, top.value / unit

    (x0, y0), (x1, y1), (x2, y2) = device(0, 0), device(1_000, 0), device(0, 1_000)
    a, b, c, d = (x1 - x0) / 1_000, (y1 - y0) / 1_000, (x2 - x0) / 1_000, (y2 - y0) / 1_000

    def to_picture(left: float, bottom: float, right: float, top: float) -> Box:
        xs = (x0 + a * left + c * bottom, x0 + a * right + c * top)
        ys = (y0 + b * left + d * bottom, y0 + b * right + d * top)
        return min(xs), min(ys), max(xs), max(ys)

    return to_picture


# Of the objects of a page.
get_object = direct(pdfium.FPDFPage_GetObject, c_void_p)
object_type = direct(pdfium.FPDFPageObj_GetType, c_int)
get_bounds = direct(pdfium.FPDFPageObj_GetBounds, c_int)
