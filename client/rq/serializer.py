"""The serializer of jobs: pickles of plain data, which a stock RQ can read, and which are read here without risk.

A pickle can name any function and have it called while the pickle is loaded. So anybody who can write to Valkey could
run code in every process that reads a job. This reader refuses every name, which leaves containers, strings, numbers
and None. The opcodes are checked before loading, because five bytes can make the unpickler allocate 16 GB. The values
are checked after loading, because a few references to references can stand for more values than can be read.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Final, NoReturn

MAX_BYTES = 16 * 1024 * 1024
# An answer with its sources has a few hundred values.
MAX_VALUES = 100_000
MAX_OPCODES = 4 * MAX_VALUES
MAX_DEPTH = 100
# 2,467 decimal digits. Python refuses to print a number of more than 4,300 digits.
MAX_BITS = 8_192

# Opcodes that load plain data: the opcode, and the number of bytes of its argument ...
_FIXED: Final = {
    opcode[0]: size
    for size, opcodes in {
        0: (
            *(pickle.MARK, pickle.STOP, pickle.POP, pickle.POP_MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
            *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
            *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.MEMOIZE),
            *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.LIST, pickle.DICT),
        ),
        1: (pickle.PROTO, pickle.BININT1, pickle.BINGET, pickle.BINPUT),
        2: (pickle.BININT2,),
        4: (pickle.BININT, pickle.LONG_BINGET),
        8: (pickle.BINFLOAT, pickle.FRAME),
    }.items()
    for opcode in opcodes
}
# ... or the number of bytes that hold the length of its argument.
_SIZED: Final = {
    opcode[0]: size
    for size, opcodes in {
        1: (pickle.SHORT_BINUNICODE, pickle.SHORT_BINBYTES, pickle.SHORT_BINSTRING, pickle.LONG1),
        4: (pickle.BINUNICODE, pickle.BINBYTES, pickle.BINSTRING, pickle.LONG4),
        8: (pickle.BINUNICODE8, pickle.BINBYTES8, pickle.BYTEARRAY8),
    }.items()
    for opcode in opcodes
}


_SEQUENCES: Final = frozenset({list, tuple, set, frozenset})
_SCALARS: Final = frozenset({bool, float, bytes, bytearray, type(None)})


class NotPlainData(ValueError):
    """The bytes are not a pickle, or are a pickle of more than plain data."""


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
        try:
            _check_values(value)
        except UnicodeEncodeError as error:
            raise NotPlainData(f"the value cannot be written: {error.reason}") from None
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        if len(data) > MAX_BYTES:
            raise NotPlainData(f"{len(data)} bytes are more than {MAX_BYTES}")
        return data

    @staticmethod
    def loads(data: bytes) -> Any:
        """Read a pickle of plain data. Raises NotPlainData for anything else, and calls nothing."""
        if len(data) > MAX_BYTES:
            raise NotPlainData(f"{len(data)} bytes are more than {MAX_BYTES}")
        try:
            _check_opcodes(data)
            value = _PlainUnpickler(io.BytesIO(data)).load()
            _check_values(value)
        except NotPlainData:
            raise
        except Exception as error:  # noqa: BLE001  a broken pickle can raise any exception
            raise NotPlainData(f"not a pickle: {type(error).__name__}") from None
        return value


def _check_opcodes(data: bytes) -> None:
    """Refuse opcodes that load more than plain data, and impossible sizes. Raises NotPlainData, IndexError."""
    place = 0
    for _ in range(MAX_OPCODES):
        opcode = data[place]
        place += 1
        if (fixed := _FIXED.get(opcode)) is not None:
            if opcode == pickle.STOP[0]:
                return
            place += fixed
        elif (width := _SIZED.get(opcode)) is not None:
            size = int.from_bytes(data[place : place + width], "little")
            place += width + size
            if place > len(data):
                raise NotPlainData("the pickle is shorter than its sizes say")
        elif opcode == pickle.LONG_BINPUT[0]:
            if int.from_bytes(data[place : place + 4], "little") > len(data):
                raise NotPlainData("the pickle asks for more memory than it can use")
            place += 4
        else:
            raise NotPlainData(f"refused to load opcode {bytes([opcode])!r}")
    raise NotPlainData(f"the pickle has more than {MAX_OPCODES} opcodes")


def _check_values(value: object) -> None:
    """Refuse too many values, which a few bytes can stand for, and values that JSON cannot hold.

    Raises NotPlainData, UnicodeEncodeError.
    """
    level: list[Any] = [value]
    count = 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            kind = type(each)
            if kind is dict:
                below += each.keys()
                below += each.values()
            elif kind in _SEQUENCES:
                below += each
            elif kind is not str or not each.isascii():
                _check_scalar(each)
            if count + len(below) > MAX_VALUES:
                raise NotPlainData(f"the pickle holds more than {MAX_VALUES} values")
        if not below:
            return
        count += len(below)
        level = below
    raise NotPlainData(f"the pickle is nested more than {MAX_DEPTH} deep")


def _check_scalar(value: object) -> None:
    kind = type(value)
    if isinstance(value, str) and kind is str:
        value.encode()  # raises for a lone surrogate
    elif isinstance(value, int) and kind is int:
        if value.bit_length() > MAX_BITS:
            raise NotPlainData(f"the pickle holds a number of more than {MAX_BITS} bits")
    elif kind not in _SCALARS:
        raise NotPlainData(f"a value of type {kind.__name__} is not plain data")
