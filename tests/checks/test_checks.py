"""The checks of lock files, known vulnerabilities and security rules."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from checks import lock, vulnerabilities
from tests.support.processes import ROOT

HASH = "    --hash=sha256:" + "0" * 64


def locked(folder: Path, *, wanted: str = "one>=1\n", pins: str | None = None) -> list[str]:
    (folder / "requirements.in").write_text(wanted)
    pins = f"one==1.2 \\\n{HASH}\n    # via -r requirements.in\n" if pins is None else pins
    (folder / "requirements.txt").write_text(f"# made by uv\n{pins}")
    return lock.check(folder)


def test_the_lock_files_of_the_project_are_in_step() -> None:
    assert lock.check(ROOT) == []
    assert {path.name for path in ROOT.glob("requirements*.in")} == {
        path.with_suffix(".in").name
        for path in ROOT.glob("requirements*.txt")
        if path.stem != "requirements-local-model"
    }


def test_a_lock_file_in_step_is_fine(tmp_path: Path) -> None:
    assert locked(tmp_path) == []
    both = f"one==1.2 ; os_name == 'nt' \\\n{HASH}\n    # via\n    #   -r requirements.in\n    #   two\n"
    assert locked(tmp_path, pins=both) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wanted": "one>=1\ntwo  # new\n"}, "lacks two: run `make lock`"),
        ({"wanted": ""}, "has one, which requirements.in no longer asks for"),
        ({"wanted": "one>=2\n"}, "has one 1.2, requirements.in asks for >=2"),
        ({"pins": "one==1.2\n    # via -r requirements.in\n"}, "one has no hash"),
        ({"pins": "one>=1.2\n    # via -r requirements.in\n"}, "cannot read 'one>=1.2'"),
        ({"pins": "one @ https://example.com/one.whl\n"}, "cannot read 'one @"),
        ({"pins": "--index-url https://example.com\n"}, "cannot read '--index-url"),
        ({"pins": f"one==1.2 \\\n{HASH[:-1]}\n    # via -r requirements.in\n"}, "cannot read '    --hash=sha256"),
    ],
)
def test_a_lock_file_out_of_step_is_named(change: dict[str, str], message: str, tmp_path: Path) -> None:
    (sentence,) = locked(tmp_path, **change)
    assert message in sentence


def test_two_versions_of_a_package_are_named(tmp_path: Path) -> None:
    (tmp_path / "requirements-dev.txt").write_text(f"one==1.3 \\\n{HASH}\n")
    assert locked(tmp_path) == ["requirements.txt has one 1.2, requirements-dev.txt has 1.3"]


def test_an_in_file_without_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements-more.in").write_text("two\n")
    assert locked(tmp_path) == ["requirements-more.in was never locked: run `make lock`"]


def test_an_extra_that_another_pin_asks_for_is_pinned(tmp_path: Path) -> None:
    """Pip 23.2, of Python 3.11 and 3.12, else takes the newest release of `two`, which has no hash in the lock."""

    def requires(name: str, _version: str) -> list[Requirement] | None:
        return [Requirement("two[fast]>=1"), Requirement("three[slow]; extra == 'x'")] if name == "one" else None

    (tmp_path / "requirements.in").write_text("one[x]\ntwo\nthree\n")
    pin = "{} \\\n" + HASH + "\n    # via -r requirements.in\n"

    def check(*pins: str) -> list[str]:
        (tmp_path / "requirements.txt").write_text("".join(pin.format(name) for name in pins))
        return lock.check(tmp_path, requires)

    assert check("one==1.2", "three==3", "two[fast]==2") == []
    assert check("one[x]==1.2", "three[slow]==3", "two[fast]==2") == []
    assert check("one==1.2", "three==3", "two==2") == [
        "requirements.txt pins two without the extra fast, which one asks for: run `make lock`"
    ]
    assert [sentence.split(",")[0] for sentence in check("one[x]==1.2", "three==3", "two[other]==2")] == [
        "requirements.txt pins two without the extra fast",
        "requirements.txt pins three without the extra slow",
    ]


class FakeAuditor:
    """Stands in for pip-audit, with fixed reports for the canary, by service, and for the lock files."""

    def __init__(self, canary: dict[str, vulnerabilities.Report], files: vulnerabilities.Report) -> None:
        self.canary, self.files = canary, files
        self.services: list[str] = []

    def __call__(self, service: str, files: Sequence[Path], seconds: float) -> vulnerabilities.Report:
        assert 0 < seconds < 300
        self.services.append(service)
        if files[0].parent == ROOT:
            assert {path.name for path in files} == {path.name for path in ROOT.glob("requirements*.txt")}
            return self.files
        assert files[0].read_text() == vulnerabilities.KNOWN_VULNERABLE
        return self.canary[service]


VULNERABILITY = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
KNOWS = vulnerabilities.Report([{"name": "jinja2", "version": "2.10", "vulns": [VULNERABILITY]}], "")
# Reports of pip-audit behind a proxy without vulnerability data, and without a network.
BLIND = vulnerabilities.Report([{"name": "jinja2", "skip_reason": "Dependency not found on PyPI"}], "")
EMPTY = vulnerabilities.Report([{"name": "jinja2", "version": "2.10", "vulns": []}], "")
GONE = vulnerabilities.Report(None, "Could not connect to PyPI's vulnerability feed")
CLEAN = vulnerabilities.Report([{"name": "one", "version": "1.2", "vulns": []}], "")


@pytest.mark.parametrize("canary", [BLIND, EMPTY, GONE])
def test_without_a_vulnerability_service_the_check_says_so_and_passes(
    canary: vulnerabilities.Report, capsys: pytest.CaptureFixture[str]
) -> None:
    auditor = FakeAuditor({"pypi": canary, "osv": canary}, CLEAN)
    assert vulnerabilities.main(auditor) == 0
    assert capsys.readouterr().out.startswith("pip-audit skipped: no vulnerability service")
    assert auditor.services == ["pypi", "osv"]


def test_the_second_service_is_used_if_the_first_has_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    auditor = FakeAuditor({"pypi": BLIND, "osv": KNOWS}, CLEAN)
    assert vulnerabilities.main(auditor) == 0
    assert auditor.services == ["pypi", "osv", "osv"]
    assert "1 packages, 0 known vulnerabilities, according to osv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            vulnerabilities.Report([{"name": "one", "version": "1.2", "vulns": [VULNERABILITY]}], ""),
            "one 1.2: PYSEC-1, fixed in 2.0",
        ),
        (
            vulnerabilities.Report([{"name": "one", "skip_reason": "not on PyPI"}], ""),
            "one could not be looked up: not on PyPI",
        ),
        (vulnerabilities.Report(None, "cannot parse"), "pip-audit failed, though pypi can be reached:\ncannot parse"),
    ],
)
def test_a_vulnerability_an_unknown_package_or_a_failure_fails_the_check(
    files: vulnerabilities.Report, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vulnerabilities.main(FakeAuditor({"pypi": KNOWS}, files)) == 1
    assert message in capsys.readouterr().out


def test_pip_audit_accepts_the_options_and_stops_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the real pip-audit without a network: it reports a failure."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "requirements.txt").write_text(vulnerabilities.KNOWN_VULNERABLE)
    report = vulnerabilities.run_pip_audit("pypi", [tmp_path / "requirements.txt"], 60)
    assert report.packages is None
    assert "usage:" not in report.messages
    assert (
        vulnerabilities.run_pip_audit("pypi", [tmp_path / "requirements.txt"], 0.01).messages == "no answer within 0 s"
    )


def test_everything_is_installed_with_hashes_and_checked() -> None:
    makefile = (ROOT / "Makefile").read_text()
    installs = re.findall(r"pip install.*", makefile)
    assert installs
    assert all("--require-hashes" in install for install in installs)
    assert makefile.count("$(INSTALL)") == len(list(ROOT.glob("requirements*.txt"))) - 1  # all but the dashboard's
    (compile_,) = re.findall(r"uv pip compile.*", makefile)
    assert "--generate-hashes" in compile_
    assert "--no-strip-extras" in compile_
    for path in ROOT.glob("requirements*.in"):
        assert f"$(COMPILE) {path.name} -o {path.with_suffix('.txt').name}" in makefile
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    for step in ("ruff check .", "-m checks.lock", "-m checks.vulnerabilities"):
        assert step in recipe[1]


def test_security_rules_hold_for_the_whole_tree() -> None:
    """Ruff's S rules (bandit's) are on; each exception names its rule, and the program itself has none but S603."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not [rule for rule in lint["ignore"] if re.match(r"S\d*$", rule)]
    for pattern, rules in lint["per-file-ignores"].items():
        left_out = {rule for rule in rules if re.match(r"S\d*$", rule)}
        assert "S" not in left_out, pattern
        if not pattern.startswith(("tests/", "bench/", "checks/")):
            assert left_out <= {"S603"}, pattern
    source = "import pickle, subprocess\npickle.loads(b'')\nsubprocess.run('ls', shell=True)\neval('1')\n"
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", "client/made_up.py", "-"],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert {"S301", "S602", "S307"} <= set(re.findall(r"S\d{3}", done.stdout))
