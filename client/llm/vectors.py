"""Embeddings out of a provider's reply, and the sizes of the requests for them."""

from __future__ import annotations

import base64
import binascii
import math
import re
import sys
from array import array
from collections.abc import Callable
from typing import Any

from client.llm.dialect import Dialect
from client.llm.failures import BadVectors, StatusFailure, WebPage, reported_failure

# A request with too many texts, or a text that is too long, is refused with one of these.
_TOO_LARGE = {400, 413, 422}
_NOT_SIZE = re.compile(r"model_not_found|invalid_api_key|insufficient_quota|content_filter")
_LENGTH = re.compile(r"length|too long|too large|tokens|context|exceed|maximum|characters")
# A text that a model refuses as too long is not cut to fewer characters than this.
_MIN_CHARS = 250
# What a process learned about a model: how many texts, and how many characters of each, it takes.
BATCH, CHARS = "batch", "chars"


def read_vectors(fields: Any, count: int) -> list[list[float]]:
    """Return the vectors of a reply for `count` texts, in the order of the texts. Raises CallFailure, ValueError."""
    if isinstance(fields, str) and fields.lstrip().startswith("<"):
        raise WebPage
    try:
        if failure := reported_failure(fields):
            raise failure
        items = fields.get("data") or []
        if all(isinstance(item.get("index"), int) for item in items):
            items = sorted(items, key=lambda item: item["index"])
        vectors = [_numbers(item["embedding"]) for item in items]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{error} in {str(fields)[:200]!r}") from None
    if len(vectors) != count:
        raise BadVectors(f"gave {len(vectors)} vectors for {count} text{'s' * (count != 1)}")
    if len({len(vector) for vector in vectors}) > 1:
        raise BadVectors("gave vectors of different sizes")
    return vectors


def embed_in_batches(
    texts: list[str], dialect: Dialect, send: Callable[[list[str]], list[list[float]]]
) -> list[list[float]]:
    """Return the vectors of texts, asked for in as many requests as the provider needs. Raises CallFailure.

    A refused request is made again with half of the texts, and a single text with half of its characters. What the
    provider took is remembered.
    """
    size = dialect.limit(BATCH) or len(texts)
    vectors: list[list[float]] = []
    while len(vectors) < len(texts):
        batch = texts[len(vectors) : len(vectors) + size]
        try:
            vectors += send(fit_lengths(batch, dialect))
        except StatusFailure as failure:
            if len(batch) > 1 and _may_be_too_large(failure):
                size = (len(batch) + 1) // 2
            elif len(batch) > 1 or not shorten(failure, batch, dialect):
                raise
        else:
            if len(batch) == size < len(texts):
                dialect.learn(frozenset({f"{BATCH}:{size}"}))
    return vectors


def fit_lengths(texts: list[str], dialect: Dialect) -> list[str]:
    """Return texts cut to the length that the model takes."""
    longest = dialect.limit(CHARS)
    return texts if longest is None else [text[:longest] for text in texts]


def shorten(failure: StatusFailure, texts: list[str], dialect: Dialect) -> bool:
    """Remember that the model takes only half of the longest text. False if the refusal is not about its length."""
    longest = max(len(text) for text in fit_lengths(texts, dialect)) // 2
    if longest < _MIN_CHARS or not _may_be_too_large(failure) or not _LENGTH.search(str(failure.body).lower()):
        return False
    dialect.learn(frozenset({f"{CHARS}:{longest}"}))
    return True


def _may_be_too_large(failure: StatusFailure) -> bool:
    return failure.status in _TOO_LARGE and not _NOT_SIZE.search(str(failure.code))


def _numbers(embedding: Any) -> list[float]:
    """Return a vector that is sent as numbers, or as base64 of little-endian 32-bit floats. Raises BadVectors."""
    if isinstance(embedding, str):
        try:
            numbers = array("f", base64.b64decode(embedding, validate=True))
        except (binascii.Error, ValueError):
            raise BadVectors("gave a vector that is no vector") from None
        if sys.byteorder == "big":
            numbers.byteswap()
        vector = numbers.tolist()
    else:
        vector = list(embedding)
    if len(vector) == 1 and isinstance(vector[0], list):  # in a list of its own, as llama.cpp sends pooled vectors
        vector = vector[0]
    kinds = set(map(type, vector))
    if list in kinds:
        raise BadVectors("gave a vector for each token instead of one for the text: set its pooling")
    if not vector or not kinds <= {int, float} or not math.isfinite(sum(vector)):
        raise BadVectors("gave a vector that is empty, or holds what is no number")
    return vector
