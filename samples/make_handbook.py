"""Make samples/handbook.pdf, the product handbook that `make demo` and the tests ask questions of.

Ten pages: two of front matter, numbered i and ii, then eight numbered from 1, so that a page's printed label and
its place in the file differ. The same bytes come out each time.
"""

from __future__ import annotations

from pathlib import Path

from reportlab.lib.pagesizes import A5
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

OUTPUT = Path(__file__).with_name("handbook.pdf")
TITLE = "Aurora Trail Lamp handbook"
MARGIN = 48
FRONT_PAGES = 2

HEADING = ParagraphStyle("heading", fontName="Helvetica-Bold", fontSize=15, leading=20, spaceAfter=8)
BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=10, leading=14, spaceAfter=7)

PAGES: list[tuple[str, list[str]]] = [
    (
        "Aurora Trail Lamp",
        [
            "Product handbook, third edition. Model AT-200.",
            "Thank you for choosing the Aurora Trail Lamp, a rechargeable head and hand lamp for walking, "
            "camping and repair work in the dark. Please read this handbook before you use the lamp for the "
            "first time, and keep it with the lamp.",
        ],
    ),
    (
        "About this handbook",
        [
            "Warnings stand in a paragraph of their own and begin with the word Warning. Notes give advice that "
            "makes the lamp last longer.",
            "The serial number is engraved under the battery door. Have it at hand when you write to the service "
            "desk. This edition replaces the second edition of March 2023.",
        ],
    ),
    (
        "What is in the box",
        [
            "The box holds the lamp, an elastic headband, a belt clip, a USB-C charging cable of one metre and "
            "this handbook. A power adapter is not included; any USB adapter of at least 5 watts will do.",
            "The lamp weighs 142 grams with its battery. The headband adds 31 grams.",
        ],
    ),
    (
        "Charging",
        [
            "Connect the USB-C cable to the port behind the rubber cover. The ring glows orange while the battery "
            "charges and turns green when it is full. A full charge takes three hours and twenty minutes.",
            "Charge the lamp fully before its first use. Do not charge it below 0 or above 45 degrees Celsius.",
            "Warning: never charge a lamp that is wet. Dry the port first, or it will corrode.",
        ],
    ),
    (
        "Battery life",
        [
            "On a full charge the battery lasts 9 hours at medium brightness. It lasts 38 hours in low mode and "
            "2 hours and 30 minutes at full brightness.",
            "When one tenth of the charge is left the lamp blinks twice every five minutes. In cold weather below "
            "minus 10 degrees the battery lasts about a third less.",
            "The battery is a replaceable 18650 lithium-ion cell of 3400 mAh.",
        ],
    ),
    (
        "Light modes",
        [
            "Press the button briefly to step through low, medium and full brightness. The beams are 20, 150 and "
            "480 lumens. Hold the button for two seconds for red light, which keeps your eyes used to the dark.",
            "Press three times quickly for the emergency signal, which blinks SOS until the battery is empty.",
            "To lock the button for transport, hold it for six seconds until the ring flashes blue.",
        ],
    ),
    (
        "Water and dust",
        [
            "The lamp is protected to IP67: it withstands dust, and immersion in one metre of water for thirty "
            "minutes, as long as the rubber cover is closed. It is not a diving lamp.",
            "After contact with salt water rinse the lamp with fresh water and let it dry in the air.",
        ],
    ),
    (
        "Care and cleaning",
        [
            "Clean the lens with a soft damp cloth. Do not use alcohol or solvents, which make the plastic brittle.",
            "Grease the sealing ring once a year with silicone grease. Store the lamp half charged in a dry place; "
            "a battery stored empty for more than six months may be damaged for good.",
        ],
    ),
    (
        "When something goes wrong",
        [
            "The lamp does not turn on: the button may be locked. Hold it for six seconds. If nothing happens, "
            "charge the lamp for ten minutes and try again.",
            "The ring blinks red while charging: the battery is too cold or too hot. Let it come to room temperature.",
            "The light flickers: the contacts of the battery are dirty. Clean them with a dry cloth.",
        ],
    ),
    (
        "Guarantee and service",
        [
            "The guarantee lasts 5 years from the day of purchase and covers defects of material and workmanship. "
            "The battery is covered for 2 years. Damage by dropping, solvents or opening the housing is excluded.",
            "Write to service@aurora-lamps.example with the serial number and a copy of the receipt. Repairs take "
            "ten working days. Spare batteries, headbands and sealing rings can be ordered for at least 8 years.",
        ],
    ),
]


def make(path: Path = OUTPUT) -> None:
    """Write the handbook to `path`."""
    width, height = A5
    canvas = Canvas(str(path), pagesize=A5, invariant=True)
    canvas.setTitle(TITLE)
    canvas.addPageLabel(0, style="ROMAN_LOWER", start=1)
    canvas.addPageLabel(FRONT_PAGES, style="ARABIC", start=1)
    for heading, paragraphs in PAGES:
        top = height - MARGIN
        for text, style in [(heading, HEADING), *((text, BODY) for text in paragraphs)]:
            paragraph = Paragraph(text, style)
            _, used = paragraph.wrap(width - 2 * MARGIN, top)
            paragraph.drawOn(canvas, MARGIN, top - used)
            top -= used + style.spaceAfter
        canvas.showPage()
    canvas.save()


if __name__ == "__main__":
    make()
