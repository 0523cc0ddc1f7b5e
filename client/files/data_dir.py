"""The folder of everything stored, made and tried before anything relies on it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from errors import SettingsError
from settings import Settings


def prepare(settings: Settings) -> None:
    """Make DATA_DIR, and the parts of it that this start will use. Raises SettingsError when they cannot be written."""
    _require_writable(settings.data_dir)
    for folder in (settings.valkey_dir, settings.qdrant_dir, settings.files_dir):
        if folder.exists():  # made by an earlier start, by another user perhaps
            _require_writable(folder)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError):
        raise SettingsError(f"DATA_DIR must be a folder, which {folder} is not") from None
    except OSError as error:
        raise SettingsError(
            f"DATA_DIR must be a folder that can be made and written, which {folder} cannot ({error.strerror})"
        ) from None
