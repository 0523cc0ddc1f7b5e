"""The verdict of `make bench-responses`."""

from __future__ import annotations

from bench.responses import BASE, MAX_TIMES, WAYS, too_expensive


def test_a_way_that_is_too_expensive_in_either_process_is_named() -> None:
    fair = dict.fromkeys(WAYS, (2.0, 10.0))
    assert too_expensive(fair) == []
    assert too_expensive(fair | {"response": (2.0 * MAX_TIMES, 10.0 * MAX_TIMES)}) == []
    in_api, in_worker = (too_expensive(fair | {"response": spent}) for spent in ((2.7, 10.0), (2.0, 13.1)))
    assert in_api == ["response takes 1.35 times the CPU of chat in the API, more than 1.3"]
    assert in_worker == ["response takes 1.31 times the CPU of chat in the worker, more than 1.3"]
    dear = fair | dict.fromkeys(BASE, (4.0, 20.0))
    assert len(too_expensive(dear)) == 2 * len(BASE)
    # A counterpart is judged by nothing, and what it costs counts for its own ways only.
    assert too_expensive(fair | {"watched": (1.0, 10.0)}) == [
        "streamed takes 2.00 times the CPU of watched in the API, more than 1.3"
    ]
