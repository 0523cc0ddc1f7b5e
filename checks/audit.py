"""Whether a locked package has a known vulnerability: `python -m checks.audit`, by pip-audit.

Without a way to a vulnerability service it says so and passes. "No way" is found out with a package that is known to be
vulnerable: a proxy that knows nothing of vulnerabilities answers politely, and would otherwise pass for good news. What
pip-audit says once a service has told of that package counts, also when it fails.
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
# Reported in CVE-2019-10906 and others, in every database of Python's vulnerabilities.
KNOWN_VULNERABLE = "jinja2==2.10"
REQUEST_SECONDS = 5
CANARY_SECONDS = 20.0
# Some 200 packages, one request each.
AUDIT_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Report:
    """What pip-audit said. `found` is None when it came to no result."""

    found: list[dict[str, Any]] | None
    said: str


Audit = Callable[[str, Sequence[Path], float], Report]


def run_pip_audit(service: str, files: Sequence[Path], seconds: float) -> Report:
    """Have pip-audit look up the packages of lock files, without installing or resolving anything."""
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


def reachable_service(audit: Audit) -> str | None:
    """Name a service that knows of a package that is known to be vulnerable; None if none can be reached."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "requirements.txt"
        canary.write_text(KNOWN_VULNERABLE)
        for service in SERVICES:
            found = audit(service, [canary], CANARY_SECONDS).found
            if found and any(package.get("vulns") for package in found):
                return service
    return None


def main(audit: Audit = run_pip_audit) -> int:
    """Print what was found. 1 for a vulnerability, a package that nobody knows, or an audit that broke off."""
    service = reachable_service(audit)
    if service is None:
        print("pip-audit skipped: no vulnerability service (PyPI's, OSV's) can be reached from here")
        return 0
    files = sorted(ROOT.glob("requirements*.txt"))
    report = audit(service, files, AUDIT_SECONDS)
    if report.found is None:
        print(f"pip-audit failed, though {service} can be reached:\n{report.said}")
        return 1
    unknown = [package for package in report.found if package.get("skip_reason")]
    vulnerable = [(package, hole) for package in report.found for hole in package.get("vulns", [])]
    for package, hole in vulnerable:
        fixed = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {hole['id']}, fixed in {fixed}")
    for package in unknown:
        print(f"{package['name']} could not be looked up: {package['skip_reason']}")
    print(f"pip-audit: {len(report.found)} packages, {len(vulnerable)} known vulnerabilities, asked of {service}")
    return 1 if vulnerable or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
