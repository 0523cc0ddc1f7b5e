"""XFA forms: the words and values of a form that only the viewer of its maker draws."""

from __future__ import annotations

import ctypes
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from errors import DocumentError
from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.blocks import Block, PageText, one_line
from rag.ingest.formats.package import attribute, local, parse_xml

WARNING = "xfa_form"
_MAX_PACKET_BYTES = 32 * 1024 * 1024
_WORDS = ("text", "exData")


def is_shell(document: pypdfium2.PdfDocument) -> bool:
    """Return True if the pages of a document only ask to wait for a viewer that draws the form."""
    return bool(pdfium.FPDF_GetFormType(document.raw) == pdfium.FORMTYPE_XFA_FULL)


def read_xfa(document: pypdfium2.PdfDocument) -> list[PageText]:
    """Return the words and the filled fields of an XFA form. Raises DocumentError when it holds none."""
    blocks = list[Block]()
    for root in _packets(document):
        for element in root.iter():
            name = local(element)
            if name in _WORDS:
                blocks.append(Block(one_line("".join(element.itertext()))))
            elif name == "datasets":
                blocks += [Block(line, "row") for line in _values(element)]
                break
    pages = [
        PageText(page.label, page.text, page.headings, WARNING)
        for page in pages_of_blocks(block for block in blocks if block.text)
    ]
    if not pages:
        raise DocumentError(
            WARNING,
            "the file is an XFA form, which only its maker's viewer shows; print the form to a PDF and upload that",
        )
    return pages


def _packets(document: pypdfium2.PdfDocument) -> list[Any]:
    """Return the roots of the XML of the form, in the order of the file: template, datasets and others."""
    data = b""
    roots = []
    for number in range(min(50, max(0, pdfium.FPDF_GetXFAPacketCount(document.raw)))):
        size = ctypes.c_ulong()
        pdfium.FPDF_GetXFAPacketContent(document.raw, number, None, 0, size)
        if not 0 < size.value <= _MAX_PACKET_BYTES:
            continue
        buffer = ctypes.create_string_buffer(size.value)
        pdfium.FPDF_GetXFAPacketContent(document.raw, number, buffer, size.value, size)
        data += buffer.raw
        root = parse_xml(buffer.raw)
        if root is not None:
            roots.append(root)
    whole = parse_xml(data)
    return roots if whole is None else [whole]


def _values(datasets: Any) -> list[str]:
    """Return `name: value` for each field that is filled."""
    return [
        f"{attribute(element, 'name') or local(element)}: {one_line(element.text)}"
        for element in datasets.iter()
        if len(element) == 0 and local(element) and (element.text or "").strip()
    ]
