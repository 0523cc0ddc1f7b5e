"""The append-only files of an embedded Valkey: finding damage and repairing it, with Valkey's own checks.

Valkey itself would cut a file that ends too early, whatever is lost with it, and start empty without its manifest.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from errors import SettingsError
from observability import commands
from observability.wording import counted

log = logging.getLogger("client.valkey")

# A kill in the middle of a write leaves the beginning of the write. A longer rest is more than that.
MAX_TORN_BYTES = 8 * 1024 * 1024
_MANIFEST = "appendonly.aof.manifest"
_MANIFEST_LINE = re.compile(r"file (?P<name>[\w.]+) seq (?P<seq>\d+) type (?P<type>[bih])(?: .*)?", re.ASCII)
_DATA_FILE = re.compile(r"appendonly\.aof\.(?P<seq>\d+)\.(?P<type>base\.rdb|base\.aof|incr\.aof)", re.ASCII)
_ANALYZED = re.compile(r"size=(?P<size>\d+), ok_up_to=(?P<good>\d+),")
_LENGTH = re.compile(rb"([*$])(\d{1,10})\r\n")
_CUT_LENGTH = re.compile(rb"([*$]\d{0,10}\r?)?")


@dataclass(frozen=True, slots=True)
class _Damage:
    """A file that can be read up to `good_bytes`."""

    file: Path
    good_bytes: int
    size: int


class AppendOnlyFiles:
    """The files in the folder of a server that does not run. `binary` is valkey-server.

    valkey-server is valkey-check-aof and valkey-check-rdb, too: the name under which it is started decides.
    """

    def __init__(self, folder: Path, binary: Path) -> None:
        self._folder = folder / "appendonlydir"
        self._binary = binary

    def require_manifest(self) -> None:
        """Raise SettingsError if the manifest is gone and files are there: the server would start without them."""
        if self._data_files() and not (self._folder / _MANIFEST).exists():
            raise self._damaged(f"{_MANIFEST} is missing")

    def mend_torn_end(self) -> bool:
        """Cut off the last write where it is not complete, as after a kill. Returns False if nothing is damaged.

        Raises SettingsError for any other damage.
        """
        if not self._data_files():  # the server ended before it wrote any: another server has its port
            return False
        listed = self._listed()
        if listed is None:
            raise self._damaged(f"{_MANIFEST} cannot be read")
        for file in listed:
            if not file.exists():
                raise self._damaged(f"{file.name} is missing")
        damages = self._find_damages(listed)
        if not damages:
            return False
        damage = damages[0]
        rest = b""
        if damage.file == listed[-1] and damage.size - damage.good_bytes <= MAX_TORN_BYTES:
            rest = damage.file.read_bytes()[damage.good_bytes :]
        if not rest or not _ends_early(rest):
            raise self._damaged(f"{damage.file.name} is damaged from byte {damage.good_bytes} on")
        kept = self._folder.with_name(f"{damage.file.name}.end-{_timestamp()}")
        try:
            kept.write_bytes(rest)
        except OSError as error:  # the disk may be full
            kept.unlink(missing_ok=True)
            where = f"not kept ({error.strerror})"
        else:
            where = f"kept in {kept}"
        self._cut(damage)
        log.warning("the last write in %s was not complete: %d bytes removed, %s", damage.file, len(rest), where)
        return True

    def repair(self) -> list[str]:
        """Repair the files. Returns a line for each repair, which says what is lost; keeps a copy of all files.

        Raises SettingsError where no repair is possible.
        """
        if not self._data_files():
            return []
        listed = self._listed()
        gone = [file.name for file in listed or () if not file.exists()]
        found = self._data_files() if listed is None or gone else listed
        damages = self._find_damages(found)
        if listed is not None and not gone and not damages:
            return []
        copy = self._folder.with_name(f"{self._folder.name}-damaged-{_timestamp()}")
        shutil.copytree(self._folder, copy)
        lines = []
        if found is not listed:
            self._write_manifest(found)
            lost = f": all that was in {', '.join(gone)} is lost" if gone else ""
            lines.append(f"{_MANIFEST} was missing or wrong: written again from the files that are there{lost}")
        for damage in damages:
            self._cut(damage)
            lines.append(
                f"{damage.file.name} was damaged from byte {damage.good_bytes} on: cut off there; jobs, results and "
                f"webhooks in the {counted(damage.size - damage.good_bytes, 'byte')} after it are lost"
            )
        return [*lines, f"the files before the repair are kept in {copy}"]

    def _data_files(self) -> list[Path]:
        """Return the files that hold data, in the order in which a server reads them."""
        found = [
            (match["type"] == "incr.aof", int(match["seq"]), file)
            for file in self._folder.glob("appendonly.aof.*")
            if (match := _DATA_FILE.fullmatch(file.name))
        ]
        bases = sorted(entry for entry in found if not entry[0])[:1]  # a later one repeats what the others hold
        return [file for *_, file in [*bases, *sorted(entry for entry in found if entry[0])]]

    def _listed(self) -> list[Path] | None:
        """Return the data files that the manifest names, in order; None for a manifest that cannot be read."""
        try:
            lines = (self._folder / _MANIFEST).read_text("ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        matches = [match for line in lines if (match := _MANIFEST_LINE.fullmatch(line))]
        if not matches or len(matches) < len(lines):
            return None
        current = sorted((match for match in matches if match["type"] != "h"), key=lambda match: match["type"] != "b")
        return [self._folder / match["name"] for match in current]

    def _write_manifest(self, files: list[Path]) -> None:
        lines = []
        for file in files:
            match = _DATA_FILE.fullmatch(file.name)
            if match is not None:
                kind = "i" if match["type"] == "incr.aof" else "b"
                lines.append(f"file {file.name} seq {match['seq']} type {kind}\n")
        (self._folder / _MANIFEST).write_text("".join(lines), "ascii")

    def _find_damages(self, files: list[Path]) -> list[_Damage]:
        """Check files. Raises SettingsError for a damaged snapshot, which nothing repairs."""
        damages = []
        for file in files:
            if file.suffix == ".rdb":
                if self._run("valkey-check-rdb", file).returncode:
                    raise SettingsError(
                        f"{file} is damaged and cannot be repaired: restore {self._folder.parent} from a backup, or "
                        "move it away to start with empty queues"
                    )
                continue
            checked = self._run("valkey-check-aof", file)
            analyzed = _ANALYZED.search(checked.stdout)
            if checked.returncode and analyzed:
                damages.append(_Damage(file, int(analyzed["good"]), int(analyzed["size"])))
        return damages

    def _cut(self, damage: _Damage) -> None:
        with damage.file.open("r+b") as file:
            file.truncate(damage.good_bytes)

    def _run(self, name: str, file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [name, str(file)],
            executable=self._binary,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def _damaged(self, what: str) -> SettingsError:
        return SettingsError(
            f"the files of the embedded Valkey in {self._folder} are damaged ({what}): run "
            f"`{commands.script('main.py')} audit --repair`, which keeps a copy, or restore them from a backup"
        )


def _ends_early(rest: bytes) -> bool:
    """Return True if the bytes are the beginning of writes, with nothing wrong but that more is to come."""
    at = 0
    while (end := rest.find(b"\n", at)) >= 0:
        length = _LENGTH.fullmatch(rest, at, end + 1)
        if length is None:
            return False
        at = end + 1
        if length[1] == b"$":
            at += int(length[2]) + 2
            if at > len(rest):
                return True
            if rest[at - 2 : at] != b"\r\n":
                return False
    return _CUT_LENGTH.fullmatch(rest, at) is not None


def _timestamp() -> str:
    return time.strftime("%Y%m%dT%H%M%S")
