"""Filters over the attributes of files."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.attribute_filters import MAX_DEPTH, MAX_PARTS, check_filter, matches

ATTRIBUTES: dict[str, Any] = {"year": 2020, "kind": "report", "draft": True}
CASES: list[tuple[str, str, Any, bool]] = [
    ("eq", "year", 2020.0, True),
    ("eq", "draft", 1, False),
    ("eq", "absent", "x", False),
    ("ne", "year", 2021, True),
    ("ne", "absent", "x", True),
    ("ne", "year", "2020", True),
    ("gt", "year", 2019, True),
    ("gte", "year", 2020, True),
    ("lt", "year", 2020, False),
    ("lte", "kind", "s", True),
    ("lt", "kind", 5, False),
    ("in", "kind", ["letter", "report"], True),
    ("in", "draft", [1], False),
    ("nin", "kind", ["letter"], True),
    ("nin", "absent", ["letter"], True),
    ("nin", "kind", ["report"], False),
]


@pytest.mark.parametrize(("kind", "key", "value", "expected"), CASES)
def test_a_comparison_is_between_values_of_one_type(kind: str, key: str, value: Any, expected: bool) -> None:
    wanted = {"type": kind, "key": key, "value": value}
    check_filter(wanted)
    assert matches(wanted, ATTRIBUTES) is expected
    true, false = {"type": "eq", "key": "kind", "value": "report"}, {"type": "eq", "key": "kind", "value": ""}
    for combine, other, result in (
        ("and", true, expected),
        ("and", false, False),
        ("or", true, True),
        ("or", false, expected),
    ):
        assert matches({"type": combine, "filters": [other, wanted]}, ATTRIBUTES) is result


def nested(depth: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "eq", "key": "k", "value": "v"}
    for _ in range(depth - 1):
        part = {"type": "or", "filters": [part]}
    return part


BAD: list[Any] = [
    *(None, [], "eq", {}, {"type": "like", "key": "k", "value": "v"}, {"type": "eq", "value": "v"}),
    *({"type": "eq", "key": "k"}, {"type": "eq", "key": "k", "value": []}, {"type": "in", "key": "k", "value": "v"}),
    *({"type": "in", "key": "k", "value": [None]}, {"type": "in", "key": "k", "value": ["v"] * (MAX_PARTS + 1)}),
    *({"type": "and", "filters": []}, {"type": "and"}, {"type": "or", "filters": [nested(1)] * MAX_PARTS}),
    *(nested(MAX_DEPTH + 1), nested(900)),
]


@pytest.mark.parametrize("given", BAD, ids=range(len(BAD)))
def test_what_cannot_be_evaluated_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_filter(given)


def test_the_largest_filters_are_accepted() -> None:
    check_filter(nested(MAX_DEPTH))
    check_filter({"type": "or", "filters": [nested(1)] * (MAX_PARTS - 1)})
