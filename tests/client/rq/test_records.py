"""Calls in job records: one reader for the worker that runs them and for the API that lists them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest

from client.rq.records import MAX_PAYLOAD_BYTES, read_call, read_payload
from client.rq.serializer import NotPlainData, PlainSerializer

CALL: tuple[Any, ...] = ("queues.worker.process_query", None, ({"query": "Why?"},), {})


@pytest.mark.parametrize("compress", [zlib.compress, bytes], ids=["as RQ writes it", "as old versions of RQ wrote it"])
def test_a_call_is_read(compress: Callable[[bytes], bytes]) -> None:
    data = compress(PlainSerializer.dumps(CALL))
    assert read_call(data) == (CALL[0], CALL[2], {})
    assert read_payload(data) == {"query": "Why?"}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (("f", None, ()), "not a call"),
        ((None, None, (), {}), "does not name a function"),
        (("f", "an instance", (), {}), "does not name a function"),
        (("f", None, "text", {}), "its arguments cannot be read"),
    ],
)
def test_a_record_that_is_not_a_call_is_refused(call: tuple[object, ...], reason: str) -> None:
    data = zlib.compress(PlainSerializer.dumps(call))
    with pytest.raises(NotPlainData, match=reason):
        read_call(data)
    assert read_payload(data) == {}


def test_a_list_of_jobs_reads_no_large_payload() -> None:
    data = zlib.compress(PlainSerializer.dumps(("f", None, ({"query": "x" * MAX_PAYLOAD_BYTES},), {})))
    assert read_call(data)[0] == "f"
    assert read_payload(data) == {}
    assert read_payload(None) == {}
    assert read_payload(zlib.compress(PlainSerializer.dumps(("f", None, (1, 2), {})))) == {}
