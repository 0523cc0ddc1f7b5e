"""How many short questions are recognized as what they are: `make bench-answers`."""

from __future__ import annotations

from bench.answers.claims import FOLDER
from rag.text.language import language_by_words, language_of


def report() -> None:
    """Print how often the detector is right, and the words and scripts alone, which serve where it is not installed."""
    lines = [line.split(": ", 1) for line in (FOLDER / "languages.txt").read_text().splitlines() if line[0] != "#"]
    print(f"\nlanguages.txt: {len(lines)} questions, {len({code for code, _ in lines})} languages")
    for label, detect in (("words alone", language_by_words), ("detector", language_of)):
        print(f"{label:<38}{sum(detect(text) == code for code, text in lines):>8}")
