"""Loading the Lua scripts of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from client.valkey.scripts import Constant, Script, load

_FOLDER = Path(__file__).parent / "lua"


def load_script(name: str, constants: Mapping[str, Constant] | None = None) -> Script:
    """Return the script in `lua/{name}.lua`, with the constants that it and its includes mention."""
    return load(_FOLDER / f"{name}.lua", constants)
