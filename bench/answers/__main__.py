"""The quality of answers on sets of our own: `make bench-answers`; `LOCKED=1` for those not tuned on.

With `DOCUMENTS=FOLDER` also what answers without a model show, for the documents that questions.txt names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.answers import citations, languages, quoted


def main() -> None:
    """Print the figures of each set."""
    parser = argparse.ArgumentParser(description="quality of answers")
    parser.add_argument("--locked", action="store_true", help="print the figures of the locked sets too")
    parser.add_argument("--documents", type=Path, help="a folder with the documents that questions.txt names")
    options = parser.parse_args()
    locked = options.locked
    for name in ("claims.txt", "claims-locked.txt") if locked else ("claims.txt",):
        citations.report(name)
    languages.report()
    if options.documents is not None:
        quoted.report(options.documents, locked=locked)


if __name__ == "__main__":
    main()
