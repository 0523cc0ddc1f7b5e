"""Checks of settings that are paths or secrets. Each raises ValueError and says what the value must be."""

from __future__ import annotations

import re
from pathlib import Path
from ssl import create_default_context

from pydantic import SecretStr

ROOT = Path(__file__).resolve().parent.parent
MIN_SECRET_BYTES = 32


def make_absolute(path: Path) -> Path:
    """Return an absolute path: `~` is expanded, and a relative path starts at the folder of main.py."""
    try:
        absolute = (ROOT / path.expanduser()).resolve()
        str(absolute).encode()
    except UnicodeEncodeError:  # Qdrant and JSON take no other bytes
        raise ValueError("must be a path in UTF-8 (if LANG is C, set PYTHONUTF8=1)") from None
    except (OSError, RuntimeError, ValueError):  # an unknown user's home, a link to itself, a NUL
        raise ValueError("must be a path") from None
    return absolute


def check_ca_file(path: Path) -> Path:
    """Check that a file holds certificates in PEM form, and return its absolute path."""
    path = make_absolute(path)
    try:
        create_default_context(cafile=path)
    except OSError as error:  # also SSLError
        raise ValueError(f"must name a readable PEM file of certificates ({error})") from None
    return path


def check_header_value(secret: SecretStr) -> SecretStr:
    """Check a key that is sent in an HTTP header."""
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", secret.get_secret_value()):
        raise ValueError("must be plain ASCII without line breaks")
    return secret


def check_signing_secret(secret: SecretStr) -> SecretStr:
    """Check a secret of HS256: RFC 7518, 3.2, asks for at least the length of the hash."""
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes long")
    return secret
