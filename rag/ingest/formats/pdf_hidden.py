"""Text of a PDF page that nobody sees: invisible, in the colour of the page, outside of it, in a layer that is off."""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ctypes import PYFUNCTYPE, c_int, c_uint, c_void_p, cast
from itertools import chain, islice
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium

_TEXT, _FORM = pdfium.FPDF_PAGEOBJ_TEXT, pdfium.FPDF_PAGEOBJ_FORM
_UNSEEN_MODES: Final = (3, 7)  # neither filled nor stroked
_NEARLY_WHITE: Final = 3 * 250
# The page is drawn in so many pixels at most; shades that differ by less cannot be told apart.
_MAX_PIXELS, _MIN_CONTRAST = 600, 24
_LAYER: Final = "OC\0".encode("utf-16-le")
# Objects that are looked at more closely, for each page.
_MAX_SUSPECTS = 2_000
_FIRST_OBJECTS, _LAST_OBJECTS, _STEP = 16, 24, 12
# Of the sample of more objects than these, each fifth is asked where it stands: text beside a page comes in numbers.
_FEW_OBJECTS, _PLACED_STEP = 64, 5
# A page of no more objects may be a form, of which it shows a part.
_FEW_PARTS, _MAX_FORM_DEPTH, _MAX_FORM_TEXTS = 8, 5, 5_000
# At the outside, such as on maps of many shapes.
_MAX_OBJECTS = 20_000
# Suspect text of less than so many points in height is a mark of a program, and not drawn for that.
_TINY = 1.5
# Text that can be seen at the same place on so many pages is part of a template.
_ENOUGH_PAGES = 2
_Bounds = tuple[float, float, float, float]  # left, bottom, right, top, in points


def direct(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Return a function of pdfium that is called three times as fast, because its arguments are not converted."""
    return PYFUNCTYPE(result, *arguments)(cast(function, c_void_p).value or 0)


_get_object = direct(pdfium.FPDFPage_GetObject, c_void_p, c_void_p, c_int)
_render_mode = direct(pdfium.FPDFTextObj_GetTextRenderMode, c_int, c_void_p)  # -1 unless a text
_type = direct(pdfium.FPDFPageObj_GetType, c_int, c_void_p)
_fill = direct(pdfium.FPDFPageObj_GetFillColor, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
_get_bounds = direct(pdfium.FPDFPageObj_GetBounds, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
_count_marks = direct(pdfium.FPDFPageObj_CountMarks, c_int, c_void_p)


class UnseenText:
    """Takes text that cannot be seen out of the pages of one document.

    A page is drawn only if some of its text is suspect, and not if all of that stands where a text that can be seen
    stands on pages before, such as white words on a banner.
    """

    def __init__(self, *, has_layers: bool) -> None:
        """`has_layers`: objects of layers, and forms, are suspect, too."""
        self._has_layers = has_layers
        self._seen: Counter[_Bounds] = Counter()

    def hide(self, page: pypdfium2.PdfPage) -> None:
        """Take the text that cannot be seen out of an open page."""
        count = pdfium.FPDFPage_CountObjects(page.raw)
        if count <= _FEW_PARTS:
            _hide_beyond(page, count)
        suspects = self._unknown(page, _sample(count), placed_every=_PLACED_STEP if count > _FEW_OBJECTS else 1)
        if suspects:
            suspects = self._unknown(page, range(min(count, _MAX_OBJECTS)), placed_every=1)
        if not suspects:
            return
        box = _page_box(page)
        beyond = [item for item, bounds in suspects if _is_outside(bounds, box)]
        if beyond and _is_all(page, min(count, _MAX_OBJECTS), len(beyond)):
            beyond = []  # the box is wrong, not each word
        for item in beyond:
            pdfium.FPDFPageObj_SetIsActive(item, 0)
        self._hide_undrawn(page, [(item, bounds) for item, bounds in suspects if not _is_outside(bounds, box)])

    def _hide_undrawn(self, page: pypdfium2.PdfPage, suspects: list[tuple[Any, _Bounds]]) -> None:
        picture = _Picture(page) if suspects else None
        for item, bounds in suspects:
            if picture is not None and picture.shows(bounds):
                if len(self._seen) < _MAX_SUSPECTS:
                    self._seen[bounds] += 1
            else:
                pdfium.FPDFPageObj_SetIsActive(item, 0)

    def _unknown(
        self, page: pypdfium2.PdfPage, numbers: Iterable[int], *, placed_every: int
    ) -> list[tuple[Any, _Bounds]]:
        """Return the suspects among these objects of a page that stand where none was seen before."""
        suspects = []
        for pointer in self._suspects(page, numbers, placed_every):
            item = cast(pointer, pdfium.FPDF_PAGEOBJECT)
            bounds = _bounds(item)
            if bounds is None or self._seen[bounds] >= _ENOUGH_PAGES:
                continue
            if min(bounds[2] - bounds[0], bounds[3] - bounds[1]) < _TINY:
                pdfium.FPDFPageObj_SetIsActive(item, 0)
            else:
                suspects.append((item, bounds))
        return suspects

    def _suspects(self, page: pypdfium2.PdfPage, numbers: Iterable[int], placed_every: int) -> Iterator[int]:
        """Yield the objects that may be unseen. `placed_every`: of how many objects one is asked where it stands."""
        raw = cast(page.raw, c_void_p).value
        colour = (c_uint * 4)()
        first = ctypes.addressof(colour)
        red, green, blue, alpha = (first + n * ctypes.sizeof(c_uint) for n in range(4))
        edges = (ctypes.c_float * 4)()
        left, bottom, right, top = (ctypes.addressof(edges) + n * ctypes.sizeof(ctypes.c_float) for n in range(4))
        west, south, east, north = _page_box(page)
        found = 0
        get_object, render_mode, fill, get_bounds = _get_object, _render_mode, _fill, _get_bounds
        for number in numbers:
            item = get_object(raw, number)
            mode = render_mode(item)
            if mode >= 0:
                known = fill(item, red, green, blue, alpha)
                white = known and (colour[0] + colour[1] + colour[2] >= _NEARLY_WHITE or not colour[3])
                suspect = mode in _UNSEEN_MODES or white or (self._has_layers and _is_in_layer(item))
                if not suspect and not number % placed_every and get_bounds(item, left, bottom, right, top):
                    suspect = edges[0] > east or edges[2] < west or edges[1] > north or edges[3] < south
            else:
                suspect = self._has_layers and _type(item) == _FORM
            if suspect and found < _MAX_SUSPECTS:
                found += 1
                yield item


def _sample(count: int) -> Iterable[int]:
    """Return which objects of a page are looked at first: the first and last ones, and every twelfth between them.

    To look at each costs a third of reading a page of 300 objects. Hidden text mostly is put before or behind all else.
    If one of the sample is suspect, all are looked at.
    """
    first, last = min(count, _FIRST_OBJECTS), max(_FIRST_OBJECTS, count - _LAST_OBJECTS)
    return chain(range(first), range(first, last, _STEP), range(last, count))


def _bounds(item: Any) -> _Bounds | None:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    if not pdfium.FPDFPageObj_GetBounds(item, left, bottom, right, top):
        return None
    return round(left.value, 1), round(bottom.value, 1), round(right.value, 1), round(top.value, 1)


def _page_box(page: pypdfium2.PdfPage) -> _Bounds:
    """Return the part of the plane that a page shows, a point wider on each side."""
    box = pdfium.FS_RECTF()
    if not pdfium.FPDF_GetPageBoundingBox(page.raw, box):
        return -math.inf, -math.inf, math.inf, math.inf
    return box.left - 1, box.bottom - 1, box.right + 1, box.top + 1


def _hide_beyond(page: pypdfium2.PdfPage, count: int) -> None:
    """Take the text outside of a page out of its forms, as tools that cut up pages leave it there."""
    raw, box = cast(page.raw, c_void_p).value, _page_box(page)
    forms = [item for item in (_get_object(raw, at) for at in range(count)) if _type(item) == _FORM]
    if all(_is_within(_bounds(cast(item, pdfium.FPDF_PAGEOBJECT)), box) for item in forms):
        return
    texts = list(islice(page.get_objects(filter=[_TEXT], max_depth=_MAX_FORM_DEPTH), _MAX_FORM_TEXTS))
    try:
        beyond = [text for text in texts if text.container is not None and _is_outside(_placed(text), box)]
    except pypdfium2.PdfiumError:  # a broken object
        return
    if len(beyond) < len(texts):
        for text in beyond:
            pdfium.FPDFPageObj_SetIsActive(text.raw, 0)


def _placed(text: pypdfium2.PdfObject) -> _Bounds:
    """Return where a text within forms stands on the page."""
    left, bottom, right, top = text.get_bounds()
    corners = [(left, bottom), (left, top), (right, bottom), (right, top)]
    form = text.container
    while form is not None:
        matrix = form.get_matrix()
        corners = [matrix.on_point(*corner) for corner in corners]
        form = form.container
    return (
        min(x for x, _ in corners),
        min(y for _, y in corners),
        max(x for x, _ in corners),
        max(y for _, y in corners),
    )


def _is_within(bounds: _Bounds | None, box: _Bounds) -> bool:
    return bounds is None or (
        bounds[0] >= box[0] and bounds[1] >= box[1] and bounds[2] <= box[2] and bounds[3] <= box[3]
    )


def _is_outside(bounds: _Bounds, box: _Bounds) -> bool:
    return bounds[0] > box[2] or bounds[2] < box[0] or bounds[1] > box[3] or bounds[3] < box[1]


def _is_all(page: pypdfium2.PdfPage, count: int, number: int) -> bool:
    """Return True if a page has no more text objects than this number."""
    raw = cast(page.raw, c_void_p).value
    return sum(1 for at in range(count) if _render_mode(_get_object(raw, at)) >= 0) <= number


def _is_in_layer(item: int) -> bool:
    """Return True if an object is marked as part of a layer."""
    pointer = cast(item, pdfium.FPDF_PAGEOBJECT)
    name = (ctypes.c_ushort * len("OC\0"))()
    size = ctypes.c_ulong()
    for number in range(_count_marks(item)):
        mark = pdfium.FPDFPageObj_GetMark(pointer, number)
        if pdfium.FPDFPageObjMark_GetName(mark, name, ctypes.sizeof(name), size) and bytes(name) == _LAYER:
            return True
    return False


class _Picture:
    """A page as it is drawn, in shades of grey, without its annotations."""

    def __init__(self, page: pypdfium2.PdfPage) -> None:
        width, height = page.get_size()
        self._scale = min(1.0, _MAX_PIXELS / max(width, height, 1))
        self._page = page
        bitmap = page.render(scale=self._scale, grayscale=True, may_draw_forms=False, draw_annots=False)
        self._width, self._height, self._stride = bitmap.width, bitmap.height, bitmap.stride
        self._pixels = bytes(bitmap.buffer)
        bitmap.close()

    def shows(self, bounds: _Bounds) -> bool:
        """Return True if there is a contrast within these bounds."""
        left, bottom, right, top = bounds
        x0, y0, x1, y1 = self._pixel_box(left, bottom, right, top)
        darkest, lightest = 255, 0
        for y in range(y0, y1):
            row = self._pixels[y * self._stride + x0 : y * self._stride + x1]
            if row:
                darkest, lightest = min(darkest, *row, 255), max(lightest, *row, 0)
                if lightest - darkest >= _MIN_CONTRAST:
                    return True
        return False

    def _pixel_box(self, left: float, bottom: float, right: float, top: float) -> tuple[int, int, int, int]:
        """Return the box of an object in pixels, whatever the rotation and the origin of the page."""
        corners = []
        for x, y in ((left, bottom), (right, top)):
            px, py = c_int(), c_int()
            pdfium.FPDF_PageToDevice(
                self._page.raw, 0, 0, self._width, self._height, 0, x, y, ctypes.byref(px), ctypes.byref(py)
            )
            corners.append((px.value, py.value))
        (ax, ay), (bx, by) = corners
        x0, x1 = sorted((max(0, min(self._width, ax)), max(0, min(self._width, bx))))
        y0, y1 = sorted((max(0, min(self._height, ay)), max(0, min(self._height, by))))
        return x0, y0, min(self._width, x1 + 1), min(self._height, y1 + 1)
