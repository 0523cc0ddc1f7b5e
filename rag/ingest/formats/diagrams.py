"""SmartArt in PPTX and DOCX: the words of a diagram, as a list in the order and the depth of the diagram."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from errors import DocumentError
from rag.ingest.formats.blocks import Block, one_line
from rag.ingest.formats.package import Package, attribute, child, local

# Points that are no words of the author: how the diagram is drawn, and its arrows.
_DRAWN: Final = ("pres", "parTrans", "sibTrans")
MAX_POINTS: Final = 5_000
_MAX_DEPTH: Final = 20


def diagram_of(package: Package, name: str) -> list[Block]:
    """Return the blocks of the part that holds the data of a diagram. A damaged diagram costs itself."""
    try:
        root = package.xml(name)
    except DocumentError:
        return []
    return [] if root is None else list(_blocks(root))


def _blocks(root: Any) -> Iterator[Block]:
    points = {attribute(point, "modelId") or "": point for point in root.iter("{*}pt")}
    texts = {key: _text(point) for key, point in list(points.items())[:MAX_POINTS]}
    inner: dict[str, list[tuple[int, str]]] = {}
    below = set()
    for link in root.iter("{*}cxn"):
        above, under = attribute(link, "srcId") or "", attribute(link, "destId") or ""
        if attribute(link, "type") in {None, "parOf"} and under in texts:
            order = attribute(link, "srcOrd") or ""
            inner.setdefault(above, []).append((int(order) if order.isdecimal() else 0, under))
            below.add(under)
    waiting = [(key, 0) for key in reversed(texts) if key not in below]
    while waiting:
        key, depth = waiting.pop()
        text = texts.pop(key, None)
        if text is None:
            continue
        if text:
            yield Block(f"{'  ' * min(depth, _MAX_DEPTH)}- {text}", "item")
        children = sorted(inner.get(key, ()), reverse=True)
        waiting += [(under, depth + bool(text)) for _, under in children]


def _text(point: Any) -> str:
    words = child(point, "t") if attribute(point, "type") not in _DRAWN else None
    if words is None:
        return ""
    return one_line(" ".join(_paragraph(element) for element in words if local(element) == "p"))


def _paragraph(paragraph: Any) -> str:
    return "".join(element.text or "" if local(element) == "t" else " " for element in paragraph.iter("{*}t", "{*}br"))
