"""Checks of the settings and of this machine, for `main.py doctor`."""

from __future__ import annotations

import platform
import shutil
import sys

from cli.findings import Finding, Findings, fail, ok, warn
from cli.keys import require_authentication
from client.files import data_dir
from rag.ingest.formats import ocr
from settings import VERSION, Settings
from settings.masking import masked
from settings.unencrypted import unencrypted_secrets

# Each client of the API takes a file descriptor, and so does each call of a worker.
MIN_OPEN_FILES = 1_024
# Free space of DATA_DIR below which the operator is told.
SCARCE_BYTES = 1024**3


def check_settings(settings: Settings) -> Findings:
    """Yield the settings that differ from their defaults, secrets masked, and what is unsafe about them.

    Raises SettingsError if other machines would be let in without authentication.
    """
    set_ = {
        name.upper(): masked(getattr(settings, name))
        for name, field in type(settings).model_fields.items()
        if getattr(settings, name) != field.default
    }
    listed = ", ".join(f"{name}={value}" for name, value in sorted(set_.items())) or "none"
    yield ok("settings", f"version {VERSION}; settings that differ from their defaults: {listed}")
    for warning in unencrypted_secrets(settings):
        yield warn("settings", warning)
    require_authentication(settings)


def check_machine(settings: Settings) -> Findings:
    """Yield the findings about Python, open files, the disk and tesseract."""
    yield ok("machine", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _check_open_files()
    yield _check_disk(settings)
    yield _check_ocr(settings)


def _check_open_files() -> Findings:
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_OPEN_FILES:
        yield warn("machine", f"{soft} files may be open (ulimit -n): allow {MIN_OPEN_FILES} or more for many clients")
    else:
        yield ok("machine", f"{'any number of' if soft == resource.RLIM_INFINITY else soft} files may be open")


def _check_disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.data_dir).free
    if low := data_dir.low_space(settings):
        return fail("disk", low)
    sentence = f"{free / 1024**3:.1f} GiB are free for DATA_DIR {settings.data_dir}"
    return warn("disk", f"only {sentence}: make room") if free < SCARCE_BYTES else ok("disk", sentence)


def _check_ocr(settings: Settings) -> Finding:
    wanted = settings.ocr_languages.split("+")
    if not ocr.is_installed():
        return warn("tesseract", "is not installed, so scans and images have no text: install tesseract-ocr")
    found = ocr.Recognizer(settings.ocr_languages, lambda: None).languages
    missing = [language for language in wanted if language not in found]
    if missing:
        return warn("tesseract", f"lacks the languages {', '.join(missing)}: install their packs, or set OCR_LANGUAGES")
    return ok("tesseract", f"reads {', '.join(found)}")
