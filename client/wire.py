"""How jobs look in Valkey: pickles of plain data, so that a stock RQ reads them, and read here without its risk.

A pickle can name any function and have it called while it loads. Whoever can write to Valkey could so run code in
every process that reads a job. This reader refuses every name, which leaves containers, strings, numbers and None.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, NoReturn

MAX_BYTES = 16 * 1024 * 1024


class NotPlainData(ValueError):
    """The bytes are no pickle, or one of more than plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise NotPlainData(f"refused to load {module}.{name}")

    def persistent_load(self, pid: object, /) -> NoReturn:
        raise NotPlainData(f"refused a persistent id of type {type(pid).__name__}")


class PlainSerializer:
    """RQ's serializer interface over pickles of plain data."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """Pickle `value`. Raises NotPlainData when it holds more than plain data."""
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        PlainSerializer.loads(data)
        return data

    @staticmethod
    def loads(data: bytes) -> Any:
        """Read a pickle of plain data. Raises NotPlainData for anything else, and calls nothing."""
        if len(data) > MAX_BYTES:
            raise NotPlainData(f"{len(data)} bytes are more than {MAX_BYTES}")
        try:
            return _PlainUnpickler(io.BytesIO(data)).load()
        except NotPlainData:
            raise
        except Exception as error:  # noqa: BLE001  a broken pickle raises whatever its bytes lead to
            raise NotPlainData(f"not a pickle: {type(error).__name__}") from None
