"""Pickles that are read without running anything."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.rq.serializer import NotPlainData, PlainSerializer

PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_is_read_back_unchanged(value: object) -> None:
    assert PlainSerializer.loads(PlainSerializer.dumps(value)) == value
    assert pickle.loads(PlainSerializer.dumps(value)) == value


class Touch:
    """Creates a file while it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def test_a_pickle_with_a_call_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(NotPlainData, match="refused to load"):
        PlainSerializer.loads(pickle.dumps(Touch(target)))
    assert not target.exists()


def test_only_plain_data_is_written(tmp_path: Path) -> None:
    with pytest.raises(NotPlainData):
        PlainSerializer.dumps({"path": tmp_path})


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_plain_data(data: bytes) -> None:
    with suppress(NotPlainData):
        PlainSerializer.loads(data)
