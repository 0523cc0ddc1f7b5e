"""Pictures in documents, such as scanned pages pasted into Word: read by OCR, or warned of without it."""

from __future__ import annotations

from errors import DocumentError
from rag.ingest.formats.blocks import Block, InnerFile
from rag.ingest.formats.images import recognize
from rag.ingest.formats.ocr import OCR_FAILED, OcrError, Recognizer
from rag.ingest.formats.package import Package

# The warning of a page with a picture that nobody has read.
PICTURES = "pictures"
# Smaller pictures are logos and icons. A screenshot of a dialog has this size.
MIN_SIDE, MIN_PIXELS = 100, 120_000
# Pictures of one file that are read. A page takes OCR a second.
MAX_PICTURES = 300


class Pictures:
    """Reads the pictures of one file, each once."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._seen: set[str] = set()

    def blocks(self, package: Package, name: str) -> list[Block]:
        """Return the paragraphs of a picture, which is a part of the file; a block with a warning if it is not read."""
        if name in self._seen:
            return []
        self._seen.add(name)
        if len(self._seen) > MAX_PICTURES:
            return [Block("", warning=PICTURES)]
        try:
            data = package.data(name)
            if data is None:
                return []
            text = recognize(InnerFile(data), self._recognizer, min_side=MIN_SIDE, min_pixels=MIN_PIXELS)
        except DocumentError:  # a damaged picture costs itself
            return []
        except OcrError:
            return [Block("", warning=OCR_FAILED if self._recognizer.languages else PICTURES)]
        return [] if text is None else [Block(part, recognized=True) for part in text.split("\n\n")]
