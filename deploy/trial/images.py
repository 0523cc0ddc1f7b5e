"""The base images: pulled, or, where no registry answers, stand-ins made of Debian's packages.

A stand-in has the name of the image for which it stands, so that the compose file and the Dockerfile run as they are.
Valkey's and Prometheus's are Debian's; Qdrant's speaks the REST interface on the embedded engine
(tests/support/qdrant_server.py).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from deploy.trial.docker import TrialFailed, attempt, program, run

PYTHON = "python:3.13-slim"
SUITE = "trixie"  # the Debian of that image
PACKAGES = "python3,python3-pip,python-is-python3,ca-certificates"
# The authorities that this machine trusts, a company's own among them.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def provide(checkout: Path) -> str:
    """Pull or make every image that the containers are based on; return which was done, in a few words."""
    services = yaml.safe_load((checkout / "docker-compose.yml").read_text())["services"]
    names = {PYTHON} | {service["image"] for service in services.values() if "image" in service}
    missing = {name for name in names if not is_here(name)}
    refused = {name for name in missing if attempt(["docker", "pull", "--quiet", name])[0] != 0}
    if not refused:
        return f"{len(names - missing)} here, {len(missing)} pulled"
    if PYTHON in refused:
        _make_python()
    without = {name for name in refused - {PYTHON} if not _recipe(name).exists()}
    for name in sorted(refused - without - {PYTHON}):
        _build(name, checkout)
    said = f"{len(names - missing)} here, {len(missing - refused)} pulled"
    said += f", stand-ins for {', '.join(sorted(refused - without))}" if refused - without else ""
    return said + (f", none for {', '.join(sorted(without))}" if without else "")


def is_here(name: str) -> bool:
    return attempt(["docker", "image", "inspect", name])[0] == 0


def _make_python() -> None:
    """Make a Debian with Python and pip. Needs root and debootstrap."""
    if shutil.which("debootstrap") is None:
        raise TrialFailed(f"{PYTHON} cannot be pulled; `apt-get install debootstrap` makes a stand-in possible")
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        root = Path(folder) / "root"
        run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)])
        for marker in (root / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        shutil.copy(AUTHORITIES, root / "etc/ssl/certs/ca-certificates.crt")
        for rubbish in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(root / rubbish, ignore_errors=True)
            (root / rubbish).mkdir(parents=True)
        archive = subprocess.Popen([program("tar"), "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(
            [program("docker"), "import", "-", PYTHON], stdin=archive.stdout, check=True, capture_output=True
        )
        if archive.wait() != 0:
            raise TrialFailed("tar could not read the stand-in of Python")
    # A pip of its own instead of Debian's, whose packages pip could not replace: they have no record of their files.
    recipe = (
        f"FROM {PYTHON}\nENV PIP_CERT={AUTHORITIES}\nRUN pip install -q --ignore-installed pip"
        " && apt-get purge -y python3-pip python3-packaging && apt-get autoremove -y --purge\n"
    )
    _docker_build(PYTHON, recipe, Path(__file__).parent / "images")


def _recipe(name: str) -> Path:
    """Return the Dockerfile of an image's stand-in; nobody packages Grafana, which has none."""
    return Path(__file__).parent / "images" / f"{name.partition('/')[0]}.Dockerfile"


def _build(name: str, checkout: Path) -> None:
    _docker_build(name, _recipe(name).read_text(), checkout)


def _docker_build(name: str, recipe: str, context: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        file = Path(folder) / "Dockerfile"
        file.write_text(recipe)
        # All of the context: what the stand-in of Qdrant needs is among the tests, which .dockerignore leaves out.
        (file.parent / "Dockerfile.dockerignore").write_text(".git\n.venv*\ndata\n**/.*_cache\n")
        run(["docker", "build", "--quiet", "--tag", name, "--file", str(file), str(context)])
