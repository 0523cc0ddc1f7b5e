"""The section and the lines of a quote from a text or Markdown file."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import read_document
from rag.ingest.media_types import MARKDOWN, PLAIN
from rag.search.neighbours import join_chunks
from rag.search.places import file_place
from schemas import Chunk, Document, Page
from tests.support.tables import each

MARKDOWN_FILE = """# Lamps

Opening para of
three short
lines.

## Section 4.2 Bulbs [1]

- Alpha item
  goes on here
  - inner beta
- gamma item

| part | weight |
|------|--------|
| glass | 14 |
| socket | 23 |

```

code delta
code epsilon
```

<div>raw zeta
text eta</div>

Closing words.
"""


def chunks_of(path: Path, text: str, *, newline: str = "\n") -> list[Chunk]:
    path.write_bytes(text.replace("\n", newline).encode())
    kind = MARKDOWN if path.suffix == ".md" else PLAIN
    document = Document(upload_id="u", path=str(path), name=path.name)
    return list(chunk_pages(document, read_document(path, media_type=kind).pages, model="m"))


def place_of(words: str, chunk: Chunk) -> tuple[str, tuple[int, int] | None]:
    at = chunk.start + chunk.text.index(words)
    place = file_place(chunk, at, at + len(words))
    return place.label, place.lines


def test_a_markdown_file_is_cited_by_heading_and_lines(tmp_path: Path) -> None:
    [chunk] = chunks_of(tmp_path / "lamps.md", MARKDOWN_FILE)
    for words, label in {
        "Opening para of three": "Section Lamps, lines 3–5",
        "Alpha item goes": "Section 4.2 Bulbs (1), lines 9–10",  # as no citation, and not "Section Section"
        "inner beta": "Section 4.2 Bulbs (1), line 11",
        "gamma item": "Section 4.2 Bulbs (1), line 12",
        "part: glass | weight: 14": "Section 4.2 Bulbs (1), line 16",
        "code delta\ncode": "Section 4.2 Bulbs (1), lines 21–22",
        "raw zeta text eta": "Section 4.2 Bulbs (1), lines 25–26",
        "lines.\n\nSection 4.2": "Section Lamps, lines 3–7",
    }.items():
        assert place_of(words, chunk)[0] == label, words


@each("newline", ["\n", "\r\n", "\r"])
def test_each_line_of_a_long_text_has_its_number(tmp_path: Path, newline: str) -> None:
    text = "\n".join(f"Entry w{n} of the log, {'and so on ' * (n % 7)}w{n}." for n in range(1, 1501))
    chunks = chunks_of(tmp_path / "a.txt", text, newline=newline)
    assert {chunk.page for chunk in chunks} == {1, 2, 3, 4, 5}
    joined = [one for before, after in pairwise(chunks) if (one := join_chunks(before, after))]
    assert joined
    numbers = set()
    for chunk in [*chunks, *joined]:
        for entry in re.finditer(r"w(\d+) of the log, (?:and so on )*w\d+\.", chunk.text):
            label, lines = place_of(entry[0], chunk)
            assert lines == (int(entry[1]), int(entry[1]))
            assert label.endswith(f"ine {entry[1]}")
            numbers.add(int(entry[1]))
    assert len(numbers) == 1500


def test_a_form_feed_begins_no_line(tmp_path: Path) -> None:
    [chunk] = chunks_of(tmp_path / "rfc.txt", "one\x00 alpha\n\f\ntwo beta\fthree gamma\nfour delta\n")
    lines = [place_of(words, chunk)[1] for words in ("alpha", "two beta", "three gamma", "four delta")]
    assert lines == [(1, 1), (3, 3), (3, 3), (4, 4)]


def test_a_quote_has_the_heading_above_it_and_not_that_of_the_chunk() -> None:
    text = "First part\nThe lamp is heavy and old.\nSecond part\nThe lamp was sold in spring."
    page = Page(number=1, label="1", text=text, headings=(0, text.index("Second part")))
    [chunk] = chunk_pages(Document(upload_id="u", path="a", name="a.html"), [page], model="m")
    sections = [file_place(chunk, text.index(words), len(text)).section for words in ("heavy", "sold")]
    assert sections == ["First part", "Second part"]
    assert file_place(chunk, 0, 5)[1:] == ("1", None)
