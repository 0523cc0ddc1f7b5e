"""Phrases for what operators read."""

from __future__ import annotations


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 page", "2 pages". `plural` is needed where it is not `singular` and an s."""
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"
