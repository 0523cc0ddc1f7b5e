"""Which replies hold vectors, and which do not."""

from __future__ import annotations

import base64
from array import array
from typing import Any

import pytest

from client.llm.failures import BadVectors, CallFailure, StatusFailure, WebPage
from client.llm.vectors import read_vectors
from tests.support.tables import each

TWO = [[0.5, 1.0], [2.0, 0.25]]


def reply(*vectors: Any, **more: Any) -> dict[str, Any]:
    return {"data": [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]} | more


def encoded(vector: list[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()


@each(
    "fields",
    {
        "numbers": reply(*TWO),
        "base64": reply(*map(encoded, TWO)),
        "in another order": {"data": reply(*TWO)["data"][::-1]},
        "without an index": {"data": [{"embedding": vector} for vector in TWO]},
        "in a list of their own": reply(*[[vector] for vector in TWO]),
        "with an empty error": reply(*TWO, error=None),
    },
)
def test_vectors_come_in_the_order_of_their_texts(fields: dict[str, Any]) -> None:
    assert read_vectors(fields, 2) == TWO


@each(
    "fields, error, shown",
    {
        "too few": (reply(TWO[0]), BadVectors, "gave 1 vectors for 2 texts"),
        "none": ({"data": None}, BadVectors, "gave 0 vectors for 2 texts"),
        "of other sizes": (reply([0.5], [1.0, 2.0]), BadVectors, "different sizes"),
        "not finite": (reply(TWO[0], [float("nan"), 1.0]), BadVectors, "no number"),
        "empty": (reply([], []), BadVectors, "empty"),
        "null": (reply(TWO[0], [None, 1.0]), BadVectors, "no number"),
        "each token": (reply(*[[[0.5, 1.0], [1.0, 2.0]]] * 2), BadVectors, "for each token"),
        "no base64": (reply("?", "!"), BadVectors, "no vector"),
        "an error": ({"error": {"message": "overloaded", "code": 503}}, StatusFailure, "status 503"),
        "a page": ("<!doctype html>", WebPage, "WebPage"),
        "a list": ([], ValueError, "get"),
        "no vector": ({"data": [{}, {}]}, ValueError, "embedding"),
    },
)
def test_a_reply_without_vectors_fails(fields: Any, error: type[CallFailure | ValueError], shown: str) -> None:
    with pytest.raises(error, match=shown):
        read_vectors(fields, 2)
