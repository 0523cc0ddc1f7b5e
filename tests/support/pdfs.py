"""PDFs for the tests."""

from __future__ import annotations

from pathlib import Path

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

WIDTH, HEIGHT, MARGIN = 595, 842, 60
STYLE = ParagraphStyle("body", fontName="Helvetica", fontSize=11, leading=15)


def write_pdf(path: Path, pages: list[str], *, labels: str | None = None, password: str | None = None) -> Path:
    """Write a PDF with a paragraph on each page; `labels` is a reportlab style such as ROMAN_LOWER."""
    encryption = StandardEncryption(password, ownerPassword="owner", strength=128) if password else None
    canvas = Canvas(str(path), pagesize=(WIDTH, HEIGHT), invariant=True, encrypt=encryption)
    if labels:
        canvas.addPageLabel(0, style=labels, start=1)
    for text in pages:
        if text:
            paragraph = Paragraph(text, STYLE)
            _, used = paragraph.wrap(WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN)
            paragraph.drawOn(canvas, MARGIN, HEIGHT - MARGIN - used)
        canvas.showPage()
    canvas.save()
    return path
