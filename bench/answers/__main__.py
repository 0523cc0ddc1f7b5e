"""The quality of answers on sets of our own: `make bench-answers`; `LOCKED=1` for those not tuned on."""

from __future__ import annotations

import argparse

from bench.answers import citations, languages


def main() -> None:
    """Print the figures of each set."""
    parser = argparse.ArgumentParser(description="quality of answers")
    parser.add_argument("--locked", action="store_true", help="print the figures of the locked sets too")
    locked = parser.parse_args().locked
    for name in ("claims.txt", "claims-locked.txt") if locked else ("claims.txt",):
        citations.report(name)
    languages.report()


if __name__ == "__main__":
    main()
