"""Failures of the embedded engine: which of them mean that its files are damaged, and the note of that for `/ready`.

The engine raises plain Exceptions with a text of Rust, and pyo3's PanicException, which is no Exception. Damage shows
when a shard is opened, or only when an operation reads the damaged part.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from client.qdrant.base import embedding_size_changed
from errors import StoreDamaged, StoreError, StoreRefused, StoreUnavailable
from observability import commands

log = logging.getLogger("rq.worker")

# The file in the folder of a shard that says that the shard is damaged. It is gone when the folder is set aside.
NOTE = "damaged"
_ERRNO = re.compile(r"os error (\d+)")
# ENOMEM, EMFILE, ENFILE, ENOSPC, EDQUOT: there may be room again.
_PASSING = {12, 24, 23, 28, 122}
# EPERM, EACCES, EROFS
_FORBIDDEN = {1, 13, 30}
# How the engine begins a text about the request. Everything else speaks of the files.
_ABOUT_THE_REQUEST = ("Vector dimension error", "Not existing vector name", "Wrong input")


def store_damaged(folder: Path) -> StoreDamaged:
    """Return the error for a damaged shard in `folder`."""
    return StoreDamaged(
        f"the embedded vector store in {folder} is damaged: run `{commands.script('main.py')} audit --repair`, which "
        "sets the folder aside and indexes the uploads again from their files"
    )


def store_forbidden(folder: Path) -> StoreRefused:
    """Return the error for a folder that this process may not read and write."""
    return StoreRefused(
        f"the embedded vector store in {folder} cannot be opened: it must be a folder that this user may read and "
        "write; check its owner and its permissions"
    )


def is_usable(folder: Path) -> bool:
    """Return True if a folder can be read and written, or does not exist."""
    try:
        folder.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def engine_failure(error: BaseException, folder: Path, *, opening: bool) -> StoreError | None:
    """Return the error for what the engine raised on a shard in `folder`; None if that is not about the files.

    `opening`: the engine was opening the shard, and no request can have been wrong.
    """
    panicked = type(error).__name__ == "PanicException"
    if type(error) is not Exception and not panicked:
        return None
    text = str(error)
    if text.startswith(_ABOUT_THE_REQUEST) and not opening:
        return embedding_size_changed(text)
    numbers = {int(number) for number in _ERRNO.findall(text)}
    if numbers & _PASSING:
        return StoreUnavailable(
            f"the embedded vector store in {folder} has no room: {os.strerror(min(numbers & _PASSING))}"
        )
    if numbers & _FORBIDDEN or not is_usable(folder):
        return store_forbidden(folder)
    return store_damaged(folder)


def note_damage(folder: Path, damage: StoreDamaged, cause: BaseException) -> None:
    """Log that a shard is damaged, and note that in its folder."""
    log.error("%s (%s)", damage.detail, type(cause).__name__)
    log.debug("the embedded engine failed", exc_info=cause)
    try:
        (folder / NOTE).write_text(damage.detail)
    except OSError:
        log.warning("the damage of %s cannot be noted there", folder)


def damage_noted(folder: Path) -> bool:
    """Return True if somebody found the shard in `folder` damaged."""
    return (folder / NOTE).exists()


def forget_damage(folder: Path) -> None:
    """Remove the note of a damage."""
    with suppress(OSError):
        (folder / NOTE).unlink(missing_ok=True)
