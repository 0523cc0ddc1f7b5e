"""Which files of a folder are documents: one rule for every command that indexes folders.

Each regular file whose content the service can read is a document, whatever its ending. Other files are skipped, with
a reason. Hidden files and folders, whose names begin with a dot, are left out silently.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from errors import DocumentError
from rag.ingest.formats.ocr import is_installed
from rag.ingest.media_types import IMAGES, detect

MAX_NAMED = 5
_NO_OCR = "an image, and tesseract-ocr is not installed"
_NOT_A_FILE = "neither a file nor a folder"
_REASONS = {"unsupported": "not a document", "not_a_pdf": "not a PDF", "empty": "empty"}


@dataclass(slots=True)
class Discovery:
    """The documents below some paths, each once and with links resolved, and the reason for each skipped file."""

    files: list[Path] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)

    @property
    def skipped_summary(self) -> str:
        """The number of skipped files, and the names of the first few with the reason; empty when none was skipped."""
        if not self.skipped:
            return ""
        first = islice(self.skipped.items(), MAX_NAMED)
        names = ", ".join(f"{path.name} ({reason})" for path, reason in first)
        more = len(self.skipped) - MAX_NAMED
        return f"{len(self.skipped)} skipped: {names}" + (f", and {more} more" if more > 0 else "")


def find_documents(paths: Iterable[Path], *, exclude: Path | None = None, converts: bool = False) -> Discovery:
    """Return the files among `paths`, without reading them, and the documents below the folders among `paths`.

    `exclude` is a folder that is not searched, unless `paths` names it. Links to folders are not followed.
    `converts`: a service reads images and further kinds of files.
    """
    discovery = Discovery()
    seen = set()
    excluded = None if exclude is None else os.path.realpath(exclude)
    for path in paths:
        real = os.path.realpath(path)  # pathlib's `resolve` raises for a link to itself
        # pathlib's `is_dir` raises for an impossible path, such as one with a name that is too long.
        is_folder = os.path.isdir(real)  # noqa: PTH112
        files = _documents_below(real, excluded, discovery, converts=converts) if is_folder else [real]
        for file in files:
            if file not in seen:
                seen.add(file)
                discovery.files.append(Path(file))
    return discovery


def _documents_below(folder: str, excluded: str | None, discovery: Discovery, *, converts: bool) -> Iterator[str]:
    """Yield the documents below a folder, in the order of their names; note the skipped files in `discovery`."""
    for entry in _files_below(folder, excluded, discovery):
        reason = _reason_to_skip(entry, converts=converts)
        if reason is None:
            yield os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        else:
            discovery.skipped[Path(entry.path)] = reason


def _files_below(folder: str, excluded: str | None, discovery: Discovery) -> Iterator[os.DirEntry[str]]:
    """Yield every visible entry below a folder, except folders. A list replaces recursion: no folder is too deep."""
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            discovery.skipped[Path(current)] = _os_reason(error)
            continue
        subfolders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield entry
            elif entry.path != excluded:
                subfolders.append(entry.path)
        waiting.extend(reversed(subfolders))


def _reason_to_skip(entry: os.DirEntry[str], *, converts: bool) -> str | None:
    """Return why a file in a folder is skipped; None for a document, and for a file that cannot be opened.

    Reads at most the first 64 KiB of the file, and the list of files of a zip archive.
    """
    try:
        if not entry.is_file():  # opening a pipe would wait for a writer
            return "a link to a folder" if entry.is_dir() else _NOT_A_FILE
    except OSError as error:
        return _os_reason(error)
    try:
        with Path(entry.path).open("rb") as file:
            kind = detect(file, entry.name, converts=converts)
    except DocumentError as error:
        return _REASONS.get(error.reason, error.reason)
    except OSError:
        return None  # indexing the file will fail with the reason
    return _NO_OCR if kind in IMAGES and not (converts or is_installed()) else None


def _os_reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
