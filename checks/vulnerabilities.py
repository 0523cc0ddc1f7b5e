"""The check of the lock files for known vulnerabilities, by pip-audit: `python -m checks.vulnerabilities`.

If no vulnerability service can be reached, the check says so and passes. A service counts as reachable only if it
reports a package that is known to be vulnerable: a proxy without vulnerability data answers too, and its answer would
read as good news. If a service is reachable, the result of pip-audit counts, also a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("pypi", "osv")
# Every database of Python vulnerabilities has CVE-2019-10906.
KNOWN_VULNERABLE = "jinja2==2.10"
REQUEST_SECONDS = 5
CANARY_SECONDS = 20.0
# Some 200 packages, one request each.
LOCK_FILES_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run of pip-audit: its entry for each package, None if the run failed, and its messages."""

    packages: list[dict[str, Any]] | None
    messages: str


# Looks up the packages of files at a service, within a number of seconds.
PackageAuditor = Callable[[str, Sequence[Path], float], Report]


def run_pip_audit(service: str, files: Sequence[Path], seconds: float) -> Report:
    """Run pip-audit on lock files, without installing or resolving anything."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--timeout", str(REQUEST_SECONDS)]
    command += ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json"]
    command += [part for file in files for part in ("--requirement", str(file))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Report(None, f"no answer within {seconds:.0f} s")
    try:
        return Report(json.loads(done.stdout)["dependencies"], done.stderr)
    except (ValueError, KeyError, TypeError):
        return Report(None, done.stderr)


def reachable_service(auditor: PackageAuditor) -> str | None:
    """Return a service that reports the package known to be vulnerable; None if no service does."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "requirements.txt"
        canary.write_text(KNOWN_VULNERABLE)
        for service in SERVICES:
            packages = auditor(service, [canary], CANARY_SECONDS).packages
            if packages and any(package.get("vulns") for package in packages):
                return service
    return None


def main(auditor: PackageAuditor = run_pip_audit) -> int:
    """Print the result. Return 1 for a vulnerability, an unknown package or a failed run of pip-audit."""
    service = reachable_service(auditor)
    if service is None:
        print("pip-audit skipped: no vulnerability service (PyPI's, OSV's) can be reached from here")
        return 0
    files = sorted(ROOT.glob("requirements*.txt"))
    report = auditor(service, files, LOCK_FILES_SECONDS)
    if report.packages is None:
        print(f"pip-audit failed, though {service} can be reached:\n{report.messages}")
        return 1
    unknown = [package for package in report.packages if package.get("skip_reason")]
    vulnerable = [(package, vulnerability) for package in report.packages for vulnerability in package.get("vulns", [])]
    for package, vulnerability in vulnerable:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    for package in unknown:
        print(f"{package['name']} could not be looked up: {package['skip_reason']}")
    print(
        f"pip-audit: {len(report.packages)} packages, {len(vulnerable)} known vulnerabilities, according to {service}"
    )
    return 1 if vulnerable or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
