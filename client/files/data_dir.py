"""DATA_DIR: the folder is created and tested before the program uses it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from errors import SettingsError
from settings import Settings

# Valkey's files, the uploads and the index grow in DATA_DIR.
LOW_SPACE_MB = 50


def prepare(settings: Settings) -> None:
    """Create DATA_DIR. Raises SettingsError when DATA_DIR, or a folder of the program in it, cannot be written."""
    _require_writable(settings.data_dir)
    for folder in (settings.valkey_dir, settings.qdrant_dir, settings.files_dir):
        if folder.exists():  # created by an earlier start, perhaps by another user
            _require_writable(folder)


def low_space(settings: Settings) -> str | None:
    """Return a sentence if the disk of DATA_DIR is full or almost full; None while there is room."""
    try:
        free_mb = shutil.disk_usage(settings.data_dir).free // 1024**2
    except OSError:
        return None
    if free_mb >= LOW_SPACE_MB:
        return None
    return (
        f"the disk of DATA_DIR has {free_mb} MB left: make room, or questions and uploads are refused when it is full"
    )


def disk_space(settings: Settings) -> tuple[int, int]:
    """Return how many bytes of the disk of DATA_DIR are free, and how many it has. Raises OSError."""
    usage = shutil.disk_usage(settings.data_dir)
    return usage.free, usage.total


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError):
        raise SettingsError(f"DATA_DIR must be a folder; {folder} is not a folder") from None
    except OSError as error:
        raise SettingsError(
            f"DATA_DIR must be a folder that can be created and written; {folder} cannot ({error.strerror})"
        ) from None
