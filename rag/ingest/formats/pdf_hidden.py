"""Text of a PDF page that nobody sees: invisible, in the colour of the page, outside of it, in a layer that is off."""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from ctypes import byref, c_int, c_ulong, c_ushort, c_void_p
from itertools import chain, islice
from operator import itemgetter
from typing import Final

import pypdfium2
import pypdfium2.raw as pdfium

from rag.ingest.formats.pdf_calls import direct, get_bounds, get_object, numbers, object_type, picture_matrix

_TEXT, _FORM = pdfium.FPDF_PAGEOBJ_TEXT, pdfium.FPDF_PAGEOBJ_FORM
_SEEN_MODES: Final = 2
_UNSEEN_MODES: Final = (3, 7)  # neither filled nor stroked
_NEARLY_WHITE: Final = 3 * 250
_LIGHT: Final = _NEARLY_WHITE - 2 * 255  # of each channel of what is nearly white
# The page is drawn in so many pixels at most; shades that differ by less cannot be told apart.
_MAX_PIXELS, _MIN_CONTRAST = 600, 24
# Bands of suspects are drawn alone that have more than this share of the height between them, so many at most.
_MIN_BETWEEN, _MAX_BANDS = 0.05, 8
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
Bounds = tuple[float, float, float, float]  # left, bottom, right, top, in points
# Left, top, right, bottom on the picture, in pixels; the object and its bounds.
_Place = tuple[float, float, float, float, c_void_p, Bounds]


_render_mode = direct(pdfium.FPDFTextObj_GetTextRenderMode, c_int)  # -1 unless a text
_fill = direct(pdfium.FPDFPageObj_GetFillColor, c_int)
_count_marks = direct(pdfium.FPDFPageObj_CountMarks, c_int)
_get_mark = direct(pdfium.FPDFPageObj_GetMark, c_void_p)
_mark_name = direct(pdfium.FPDFPageObjMark_GetName, c_int)
_set_active = direct(pdfium.FPDFPageObj_SetIsActive, c_int)


class UnseenText:
    """Takes text that cannot be seen out of the pages of one document.

    A page is drawn only if some of its text is suspect, and not if all of that stands where a text that can be seen
    stands on pages before, such as white words on a banner.
    """

    def __init__(self, *, has_layers: bool) -> None:
        """`has_layers`: objects of layers, and forms, are suspect, too."""
        self._has_layers = has_layers
        self._seen: Counter[Bounds] = Counter()
        self._edges, self._colour = numbers("f", 4), numbers("I", 4)

    def hide(self, page: pypdfium2.PdfPage) -> None:
        """Take the text that cannot be seen out of an open page."""
        count = pdfium.FPDFPage_CountObjects(page.raw)
        if count <= _FEW_PARTS:
            self._hide_beyond(page, count)
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
            _set_active(item, 0)
        self._hide_undrawn(page, [(item, bounds) for item, bounds in suspects if not _is_outside(bounds, box)])

    def _hide_beyond(self, page: pypdfium2.PdfPage, count: int) -> None:
        """Take the text outside of a page out of its forms, as tools that cut up pages leave it there."""
        box = _page_box(page)
        forms = [
            item for item in (c_void_p(get_object(page.raw, at)) for at in range(count)) if object_type(item) == _FORM
        ]
        if all(_is_within(self._bounds(item), box) for item in forms):
            return
        texts = list(islice(page.get_objects(filter=[_TEXT], max_depth=_MAX_FORM_DEPTH), _MAX_FORM_TEXTS))
        try:
            beyond = [text for text in texts if text.container is not None and _is_outside(_placed(text), box)]
        except pypdfium2.PdfiumError:  # a broken object
            return
        if len(beyond) < len(texts):
            for text in beyond:
                _set_active(text.raw, 0)

    def _hide_undrawn(self, page: pypdfium2.PdfPage, suspects: list[tuple[c_void_p, Bounds]]) -> None:
        for item, bounds, is_seen in drawn(page, suspects):
            if not is_seen:
                _set_active(item, 0)
            elif len(self._seen) < _MAX_SUSPECTS:
                self._seen[bounds] += 1

    def _unknown(
        self, page: pypdfium2.PdfPage, numbers: Iterable[int], *, placed_every: int
    ) -> list[tuple[c_void_p, Bounds]]:
        """Return the suspects among these objects of a page that stand where none was seen before."""
        suspects = []
        for item in self._suspects(page, numbers, placed_every):
            bounds = self._bounds(item)
            if bounds is None or self._seen[bounds] >= _ENOUGH_PAGES:
                continue
            if min(bounds[2] - bounds[0], bounds[3] - bounds[1]) < _TINY:
                _set_active(item, 0)
            else:
                suspects.append((item, bounds))
        return suspects

    def _suspects(self, page: pypdfium2.PdfPage, numbers: Iterable[int], placed_every: int) -> Iterator[c_void_p]:
        """Yield the objects that may be unseen. `placed_every`: of how many objects one is asked where it stands."""
        handle, item = page.raw, c_void_p()
        edges, places = self._edges
        colour, (red, green, blue, alpha) = self._colour
        west, south, east, north = _page_box(page)
        found = 0
        in_layer = _LayerMarks() if self._has_layers else None
        render_mode, fill = _render_mode, _fill
        for number in numbers:
            item.value = get_object(handle, number)
            mode = render_mode(item)
            if mode >= 0:
                white = fill(item, red, green, blue, alpha) and (
                    (colour[0] >= _LIGHT and colour[0] + colour[1] + colour[2] >= _NEARLY_WHITE) or not colour[3]
                )
                suspect = white or (mode > _SEEN_MODES and mode in _UNSEEN_MODES) or (in_layer and in_layer.has(item))
                if not suspect and not number % placed_every and get_bounds(item, *places):
                    suspect = edges[0] > east or edges[2] < west or edges[1] > north or edges[3] < south
            else:
                suspect = in_layer and object_type(item) == _FORM
            if suspect and found < _MAX_SUSPECTS:
                found += 1
                yield c_void_p(item.value)

    def _bounds(self, item: c_void_p) -> Bounds | None:
        edges, places = self._edges
        if not get_bounds(item, *places):
            return None
        return round(edges[0], 1), round(edges[1], 1), round(edges[2], 1), round(edges[3], 1)


def _sample(count: int) -> Iterable[int]:
    """Return which objects of a page are looked at first: the first and last ones, and every twelfth between them.

    To look at each costs a third of reading a page of 300 objects. Hidden text mostly is put before or behind all else.
    If one of the sample is suspect, all are looked at.
    """
    first, last = min(count, _FIRST_OBJECTS), max(_FIRST_OBJECTS, count - _LAST_OBJECTS)
    return chain(range(first), range(first, last, _STEP), range(last, count))


def _page_box(page: pypdfium2.PdfPage) -> Bounds:
    """Return the part of the plane that a page shows, a point wider on each side."""
    box = pdfium.FS_RECTF()
    if not pdfium.FPDF_GetPageBoundingBox(page.raw, box):
        return -math.inf, -math.inf, math.inf, math.inf
    return box.left - 1, box.bottom - 1, box.right + 1, box.top + 1


def _placed(text: pypdfium2.PdfObject) -> Bounds:
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


def _is_within(bounds: Bounds | None, box: Bounds) -> bool:
    return bounds is None or (
        bounds[0] >= box[0] and bounds[1] >= box[1] and bounds[2] <= box[2] and bounds[3] <= box[3]
    )


def _is_outside(bounds: Bounds, box: Bounds) -> bool:
    return bounds[0] > box[2] or bounds[2] < box[0] or bounds[1] > box[3] or bounds[3] < box[1]


def _is_all(page: pypdfium2.PdfPage, count: int, number: int) -> bool:
    """Return True if a page has no more text objects than this number."""
    item = c_void_p()
    for at in range(count):
        item.value = get_object(page.raw, at)
        number -= _render_mode(item) >= 0
        if number < 0:
            return False
    return True


class _LayerMarks:
    """Which marks of the objects of one page name a layer. Objects share marks."""

    def __init__(self) -> None:
        self._known: dict[int | None, bool] = {}
        self._name, self._size = (c_ushort * len("OC\0"))(), c_ulong()

    def has(self, item: c_void_p) -> bool:
        """Return True if an object is marked as part of a layer."""
        return any(self._is_layer(_get_mark(item, number)) for number in range(_count_marks(item)))

    def _is_layer(self, mark: int | None) -> bool:
        if mark not in self._known:
            into, size = byref(self._name), byref(self._size)
            named = _mark_name(c_void_p(mark), into, ctypes.sizeof(self._name), size)
            self._known[mark] = bool(named) and bytes(self._name) == _LAYER
        return self._known[mark]


def drawn(page: pypdfium2.PdfPage, suspects: list[tuple[c_void_p, Bounds]]) -> Iterator[tuple[c_void_p, Bounds, bool]]:
    """Yield each suspect, where it stands, and whether there is a contrast when the page is drawn."""
    if not suspects:
        return
    width, height = page.get_size()
    scale = min(1.0, _MAX_PIXELS / max(width, height, 1))
    to_picture = picture_matrix(page)
    places = [(*(scale * edge for edge in to_picture(*bounds)), item, bounds) for item, bounds in suspects]
    for band in _bands(sorted(places, key=itemgetter(1)), scale * height):
        picture = _Picture(page, scale, band)
        for *box, item, bounds in band:
            yield item, bounds, picture.shows(*box)


def _bands(places: list[_Place], height: float) -> Iterator[list[_Place]]:
    """Divide places, from top to bottom, to bands of the picture that are drawn alone."""
    band: list[_Place] = []
    bottom, left = 0.0, _MAX_BANDS
    for place in places:
        if band and place[1] - bottom > _MIN_BETWEEN * height and left:
            yield band
            band, left = [], left - 1
        bottom = max(bottom, place[3]) if band else place[3]
        band.append(place)
    yield band


class _Picture:
    """A part of a page as it is drawn, in shades of grey, without its annotations. Lengths are in pixels."""

    def __init__(self, page: pypdfium2.PdfPage, scale: float, places: list[_Place]) -> None:
        page_width, page_height = (scale * side for side in page.get_size())
        self._left = max(0, int(min(place[0] for place in places)) - 1)
        self._top = max(0, int(min(place[1] for place in places)) - 1)
        right = min(math.ceil(page_width), int(max(place[2] for place in places)) + 2)
        bottom = min(math.ceil(page_height), int(max(place[3] for place in places)) + 2)
        size = max(1, right - self._left), max(1, bottom - self._top)
        bitmap = pypdfium2.PdfBitmap.new_native(*size, pdfium.FPDFBitmap_Gray)
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, *size)
        whole = math.ceil(page_width), math.ceil(page_height)
        pdfium.FPDF_RenderPageBitmap(bitmap.raw, page.raw, -self._left, -self._top, *whole, 0, pdfium.FPDF_GRAYSCALE)
        self._width, self._height, self._stride = bitmap.width, bitmap.height, bitmap.stride
        self._pixels = bytes(bitmap.buffer)
        bitmap.close()

    def shows(self, left: float, top: float, right: float, bottom: float) -> bool:
        """Return True if there is a contrast within these edges, which are counted from the corner of the page."""
        x0, y0 = max(0, int(left) - self._left), max(0, int(top) - self._top)
        x1, y1 = min(self._width, int(right) + 1 - self._left), min(self._height, int(bottom) + 1 - self._top)
        darkest, lightest = 255, 0
        for y in range(y0, y1):
            row = self._pixels[y * self._stride + x0 : y * self._stride + x1]
            if row:
                darkest, lightest = min(darkest, *row, 255), max(lightest, *row, 0)
                if lightest - darkest >= _MIN_CONTRAST:
                    return True
        return False
