"""Filters over the attributes of files, in OpenAI's form: comparisons, and `and` and `or` of filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

MAX_DEPTH: Final = 8
MAX_PARTS: Final = 100
AttributeValue = str | float | bool

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda stored, value: stored == value,
    "ne": lambda stored, value: stored != value,
    "gt": lambda stored, value: stored > value,
    "gte": lambda stored, value: stored >= value,
    "lt": lambda stored, value: stored < value,
    "lte": lambda stored, value: stored <= value,
}
_LISTS: Final = {"in", "nin"}
# True also for a file without the attribute, or with one of another type.
_NEGATIVE: Final = {"ne", "nin"}


def check_filter(given: object) -> None:
    """Raise ValueError, with a sentence, for a filter that cannot be evaluated."""
    waiting: list[tuple[object, int]] = [(given, 1)]
    seen = 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_PARTS:
            raise ValueError(f"has more than {MAX_PARTS} parts, or more than {MAX_DEPTH} levels")
        if not isinstance(part, dict):
            raise ValueError("must be an object with a type")  # noqa: TRY004  a value of the client
        kind = part.get("type")
        if kind in {"and", "or"}:
            parts = part.get("filters")
            if not isinstance(parts, list) or not parts:
                raise ValueError("and, or: need a list of filters")
            waiting += [(inner, depth + 1) for inner in parts[: MAX_PARTS + 1]]
        elif kind in _COMPARE or kind in _LISTS:
            _check_comparison(part, is_list=kind in _LISTS)
        else:
            raise ValueError(f"the type must be one of {', '.join([*_COMPARE, *sorted(_LISTS), 'and', 'or'])}")


def _check_comparison(part: Mapping[str, Any], *, is_list: bool) -> None:
    if not isinstance(part.get("key"), str):
        raise ValueError("a comparison needs the key of an attribute")  # noqa: TRY004
    value = part.get("value")
    values = value if is_list and isinstance(value, list) else [value]
    if is_list != isinstance(value, list) or len(values) > MAX_PARTS:
        raise ValueError(f"in, nin: need a list of at most {MAX_PARTS} values; the other types need one value")
    if not all(isinstance(one, str | float | int) for one in values):
        raise ValueError("a value must be a text, a number, true or false")


def matches(wanted: Mapping[str, Any], attributes: Mapping[str, AttributeValue]) -> bool:
    """Return True if a file with these attributes meets a filter that was checked."""
    kind = wanted["type"]
    if kind in {"and", "or"}:
        combine = all if kind == "and" else any
        return combine(matches(part, attributes) for part in wanted["filters"])
    stored, value = attributes.get(wanted["key"]), wanted["value"]
    if kind in _LISTS:
        found = any(_comparable(stored, one) and stored == one for one in value)
        return found if kind == "in" else not found
    if not _comparable(stored, value):
        return kind in _NEGATIVE
    return _COMPARE[kind](stored, value)


def _comparable(stored: object, value: object) -> bool:
    """Return True for two numbers, two texts or two truth values: True is no number here."""
    kinds = (bool, str, (int, float))
    first, second = (next((kind for kind in kinds if isinstance(one, kind)), None) for one in (stored, value))
    return first is not None and first == second
