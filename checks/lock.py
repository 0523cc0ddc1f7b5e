"""Check the lock files against what they lock: `python -m checks.lock`. Needs no network.

Each requirements*.txt must hold exactly the packages of its .in file, within the versions that file asks for. Each
package is pinned to a version with the hashes of its files, and a package in two files has the same version in both.
Each extra that one pin asks of another is part of the other's pin: pip before 24.1 resolves an extra that is not pinned
to the newest release, and then stops because that release has no hash.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[(?P<extras>[\w,-]+)\])?==(?P<version>[^ ;\\]+)")
_HASH = re.compile(r"^\s+--hash=sha256:[0-9a-f]{64}")


@dataclass
class Pin:
    """A package of a lock file: its version and extras, the number of its hashes, and the packages that need it."""

    name: str
    version: str
    extras: frozenset[str] = frozenset()
    hashes: int = 0
    needed_by: list[str] = field(default_factory=list)


# Returns the requirements of a package in a version; None where they are not known on this machine.
Requires = Callable[[str, str], list[Requirement] | None]


def read_pins(path: Path) -> list[Pin]:
    """Read a lock file as uv writes it. Raises ValueError for a line that uv does not write."""
    pins: list[Pin] = []
    for line in path.read_text().splitlines():
        if pinned := _PIN.match(line):
            extras = frozenset((pinned["extras"] or "").split(",")) - {""}
            pins.append(Pin(canonicalize_name(pinned["name"]), pinned["version"], extras))
        elif _HASH.match(line) and pins:
            pins[-1].hashes += 1
        elif line.lstrip().startswith("#"):
            if pins:
                pins[-1].needed_by.append(line.strip("# ").removeprefix("via").strip())
        elif line.strip():
            raise ValueError(f"{path.name}: cannot read {line!r}")
    return pins


def read_requirements(path: Path) -> dict[str, Requirement]:
    """Read the requirements of an .in file."""
    lines = (line.partition(" #")[0].strip() for line in path.read_text().splitlines())
    requirements = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def installed_requirements(name: str, version: str) -> list[Requirement] | None:
    """Return the requirements of an installed package; None if it is not installed in this version."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return None
    if installed.version != version:
        return None
    return [Requirement(text) for text in installed.requires or []]


def check(folder: Path, requires: Requires = installed_requirements) -> list[str]:
    """Return a sentence for each fault of the lock files in a folder."""
    faults: list[str] = []
    versions: dict[str, tuple[str, set[str]]] = {}
    for path in sorted(folder.glob("requirements*.txt")):
        try:
            pins = read_pins(path)
        except ValueError as error:
            faults.append(str(error))
            continue
        faults += [f"{path.name}: {pin.name} has no hash" for pin in pins if not pin.hashes]
        if path.with_suffix(".in").exists():
            faults += _out_of_step(path, pins)
        faults += [
            f"{path.name} pins {name} without the extra {extra}, which {by} asks for: run `make lock`"
            for by, name, extra in _missing_extras(pins, requires)
        ]
        for name, here in _versions(pins).items():
            other, there = versions.setdefault(name, (path.name, here))
            if not (here <= there or there <= here):
                faults.append(f"{path.name} has {name} {', '.join(here)}, {other} has {', '.join(there)}")
    unlocked = [path for path in sorted(folder.glob("requirements*.in")) if not path.with_suffix(".txt").exists()]
    return faults + [f"{path.name} was never locked: run `make lock`" for path in unlocked]


def _versions(pins: list[Pin]) -> dict[str, set[str]]:
    """Return the pinned versions of each package; several if an older Python needs another one."""
    versions: dict[str, set[str]] = {}
    for pin in pins:
        versions.setdefault(pin.name, set()).add(pin.version)
    return versions


def _missing_extras(pins: list[Pin], requires: Requires) -> Iterator[tuple[str, str, str]]:
    """Yield each extra that a pin requires and the lock lacks: the requiring package, the package, the extra."""
    pinned: dict[str, frozenset[str]] = {}
    for pin in pins:
        pinned[pin.name] = pinned.get(pin.name, frozenset()) | pin.extras
    for pin in pins:
        for requirement in requires(pin.name, pin.version) or []:
            marker, name = requirement.marker, canonicalize_name(requirement.name)
            applies = marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *pin.extras))
            for extra in sorted(requirement.extras - pinned.get(name, requirement.extras)) if applies else ():
                yield pin.name, name, extra


def _out_of_step(path: Path, pins: list[Pin]) -> list[str]:
    source = path.with_suffix(".in")
    requirements = read_requirements(source)
    locked = {pin.name for pin in pins if f"-r {source.name}" in pin.needed_by}
    faults = [f"{path.name} lacks {name}: run `make lock`" for name in sorted(requirements.keys() - locked)]
    faults += [
        f"{path.name} has {name}, which {source.name} no longer asks for"
        for name in sorted(locked - requirements.keys())
    ]
    for pin in pins:
        requirement = requirements.get(pin.name)
        if requirement is not None and not requirement.specifier.contains(pin.version, prereleases=True):
            faults.append(f"{path.name} has {pin.name} {pin.version}, {source.name} asks for {requirement.specifier}")
    return faults


def main() -> int:
    """Print the faults of the lock files. Return 1 if there are any."""
    faults = check(ROOT)
    print("\n".join(faults) if faults else "lock files: in step, every package pinned and hashed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
