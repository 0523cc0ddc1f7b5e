"""The environment variables that the locked packages know, read from their sources."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tests.support.processes import ROOT

_LOCKED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==", re.MULTILINE)
_READS = re.compile(r"environ|getenv|env_var|from_env")
_NAME = re.compile(r"""["']([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)["']""")
# A word of variables that say where to send, as whom, or whether.
_SENDING = re.compile(
    r"(^|_)(URL|URI|ENDPOINTS?|BASE|HOST|HOSTADDR|SERVICE|SERVER|GATEWAY|PROXY|KEY|TOKEN|HEADERS|ORG|ORGANIZATION|"
    r"PROJECT|PROFILE|TRACING|TRACING_V2|HANDLER|EXPORTER|TELEMETRY|DSN|CONFIGURE)(_|$)"
)
# langsmith puts these before most of its names.
_NAMESPACES = ("LANGSMITH_", "LANGCHAIN_")


@cache
def sending_variables() -> dict[str, set[str]]:
    """Return the names of variables by which packages may choose where to send, and the packages that know each."""
    found: dict[str, set[str]] = {}
    for package in sorted(set(_LOCKED.findall((ROOT / "requirements.txt").read_text()))):
        for text in _sources(package):
            if not _READS.search(text):
                continue
            for name in _names(package, text):
                if _SENDING.search(name):
                    found.setdefault(name, set()).add(package)
    return found


def _names(package: str, text: str) -> set[str]:
    names = set(_NAME.findall(text))
    if package != "langsmith":
        return names
    whole = {name for name in names if name.startswith((*_NAMESPACES, "OTEL_", "HOSTED_"))}
    return whole | {f"{space}{name}" for space in _NAMESPACES for name in names - whole}


def _sources(package: str) -> list[str]:
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:  # of another platform
        return []
    return [Path(str(file.locate())).read_text(errors="replace") for file in files if file.suffix == ".py"]
