"""The encoding of text and file names in the processes of the command line."""

from __future__ import annotations

import io
import os
import sys


def use_utf8() -> None:
    """Start the program again in Python's UTF-8 mode if the locale knows only ASCII. Call before all else.

    Python does so by itself for LANG=C, unless PYTHONUTF8=0 keeps it from that. In ASCII, `é` in a file name is two
    characters that no terminal prints, no JSON holds and no Qdrant opens. In every other locale, characters that the
    terminal lacks are printed as escapes.
    """
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        sys.stdout.flush()
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONUTF8": "1"})  # noqa: S606  this very program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
