"""One test over a table of cases."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

Test = Callable[..., None]


def each(names: str, cases: Iterable[Any] | Mapping[str, Any]) -> Callable[[Test], Test]:
    """Call a test once for every case, as subtests of one test: a failing case is reported alone, and the rest go on.

    `names` are the parameters that a case fills, separated by commas. A mapping gives each case a name. Fixtures are
    made once and shared by all cases, so a case must leave nothing behind; else use `pytest.mark.parametrize`.
    """
    fields = [name.strip() for name in names.split(",")]
    labelled = list(cases.items()) if isinstance(cases, Mapping) else [(repr(case)[:60], case) for case in cases]

    def decorate(test: Test) -> Test:
        def run(**fixtures: Any) -> None:
            subtests: pytest.Subtests = fixtures["subtests"] if takes_subtests else fixtures.pop("subtests")
            for label, case in labelled:
                values = case if len(fields) > 1 else [case]
                with subtests.test(label):
                    test(**fixtures, **dict(zip(fields, values, strict=True)))

        given = inspect.signature(test).parameters
        takes_subtests = "subtests" in given  # of another `each` below this one
        fixtures = [name for name in given if name not in fields and name != "subtests"]
        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.__dict__.update(test.__dict__)  # marks
        keyword = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.Signature([inspect.Parameter(name, keyword) for name in [*fixtures, "subtests"]])
        run.__signature__ = signature  # type: ignore[attr-defined]
        return run

    return decorate
