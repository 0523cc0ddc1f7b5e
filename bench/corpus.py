"""`python -m bench.corpus`: what becomes of each file of the tests' corpus, by kind, as the table of docs/uploads.md.

A file is right if it gives the text that it must give and no other, warned if it also says which page is missing,
refused if it fails for the right reason, and wrong otherwise. Scans are read as on a machine without tesseract.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rag.ingest.extraction import close_readers
from tests.support.corpus import Sample
from tests.support.corpus.reading import check, expected, read, table_of


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")

        def outcome(sample: Sample) -> str:
            try:
                check(sample, *read(sample, path))
            except AssertionError:
                return "wrong"
            return expected(sample)

        print(table_of(outcome))
    close_readers()


if __name__ == "__main__":
    main()
