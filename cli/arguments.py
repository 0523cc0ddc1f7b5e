"""The arguments of commands whose modules take long to import."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--no-model", action="store_true", help="send nothing to the model provider and the reranker")


def add_backup(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `backup` and `restore` to the commands."""
    backup = parts.add_parser("backup", help="copy jobs, rows, vectors and files; the service may run")
    backup.add_argument("to", type=Path, metavar="TO", help="a new folder, or a file: .tar, .tar.gz or .tar.zst")
    restore = parts.add_parser("restore", help="put a backup in place of what is stored; the service must not run")
    restore.add_argument("source", type=Path, metavar="FROM", help="a backup")
    restore.add_argument("--force", action="store_true", help="replace what is stored, which is lost")


def add_top(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `top`."""
    parser.add_argument("--once", action="store_true", help="print once and end, as without a terminal")
    parser.add_argument("--interval", type=_interval, default=1.0, help="seconds between two looks (default: 1)")


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3_600:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be from 0.1 to 3600")
    return seconds


def add_reindex(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `reindex`."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("upload_id", nargs="?", metavar="ID", help="only this upload, into the present index")
    what.add_argument("--all", action="store_true", help="a new index of all documents, even with the same model")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")
    parser.add_argument("--wait", action="store_true", help="return when the new index is searched, or has failed")
