"""Calls and times in job records: one reader of calls for the worker that runs them and for the API that lists them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest
from rq.utils import utcparse

from client.rq.records import MAX_PAYLOAD_BYTES, read_call, read_payload, read_timestamp, rq_timestamp
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


@pytest.mark.parametrize("text", ["2026-02-28T23:59:59.000001Z", "2026-02-28T23:59:59Z", "2026-2-8T3:9:9.5Z"])
def test_a_time_is_read_as_rq_reads_it(text: str) -> None:
    assert read_timestamp(text) == utcparse(text)


def test_a_time_that_we_write_is_read() -> None:
    text = rq_timestamp()
    assert read_timestamp(text) == utcparse(text)


@pytest.mark.parametrize(
    "text", ["", "2026-02-29T00:00:00.000000Z", "2026-02-28", "2026-W09-1T00:00:00.000000Z", "٢" * 27]
)
def test_a_text_that_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  its text is Python's
        read_timestamp(text)
