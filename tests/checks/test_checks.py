"""The checks of the supply chain find what they are for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from checks import audit, lock
from tests.support.processes import ROOT

HASH = "    --hash=sha256:" + "0" * 64


def locked(folder: Path, *, wanted: str = "one>=1\n", pins: str | None = None) -> list[str]:
    (folder / "requirements.in").write_text(wanted)
    pins = f"one==1.2 \\\n{HASH}\n    # via -r requirements.in\n" if pins is None else pins
    (folder / "requirements.txt").write_text(f"# made by uv\n{pins}")
    return lock.check(folder)


def test_our_own_lock_files_are_in_step() -> None:
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
    ("change", "said"),
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
def test_a_lock_file_out_of_step_is_named(change: dict[str, str], said: str, tmp_path: Path) -> None:
    (sentence,) = locked(tmp_path, **change)
    assert said in sentence


def test_two_versions_of_a_package_are_named(tmp_path: Path) -> None:
    (tmp_path / "requirements-dev.txt").write_text(f"one==1.3 \\\n{HASH}\n")
    assert locked(tmp_path) == ["requirements.txt has one 1.2, requirements-dev.txt has 1.3"]


def test_what_was_never_locked_is_named(tmp_path: Path) -> None:
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


class Auditor:
    """Answers in the place of pip-audit: of the canary as told, of the lock files as told."""

    def __init__(self, canary: dict[str, audit.Report], files: audit.Report) -> None:
        self.canary, self.files = canary, files
        self.asked: list[str] = []

    def __call__(self, service: str, files: Sequence[Path], seconds: float) -> audit.Report:
        assert 0 < seconds < 300
        self.asked.append(service)
        if files[0].parent == ROOT:
            assert {path.name for path in files} == {path.name for path in ROOT.glob("requirements*.txt")}
            return self.files
        assert files[0].read_text() == audit.KNOWN_VULNERABLE
        return self.canary[service]


HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
KNOWS = audit.Report([{"name": "jinja2", "version": "2.10", "vulns": [HOLE]}], "")
# What pip-audit makes of a proxy that has no such page, and of no network at all.
BLIND = audit.Report([{"name": "jinja2", "skip_reason": "Dependency not found on PyPI"}], "")
EMPTY = audit.Report([{"name": "jinja2", "version": "2.10", "vulns": []}], "")
GONE = audit.Report(None, "Could not connect to PyPI's vulnerability feed")
CLEAN = audit.Report([{"name": "one", "version": "1.2", "vulns": []}], "")


@pytest.mark.parametrize("canary", [BLIND, EMPTY, GONE])
def test_without_a_vulnerability_service_the_audit_says_so_and_passes(
    canary: audit.Report, capsys: pytest.CaptureFixture[str]
) -> None:
    auditor = Auditor({"pypi": canary, "osv": canary}, CLEAN)
    assert audit.main(auditor) == 0
    assert capsys.readouterr().out.startswith("pip-audit skipped: no vulnerability service")
    assert auditor.asked == ["pypi", "osv"]


def test_the_second_service_is_asked_when_the_first_knows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    auditor = Auditor({"pypi": BLIND, "osv": KNOWS}, CLEAN)
    assert audit.main(auditor) == 0
    assert auditor.asked == ["pypi", "osv", "osv"]
    assert "1 packages, 0 known vulnerabilities, asked of osv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (audit.Report([{"name": "one", "version": "1.2", "vulns": [HOLE]}], ""), "one 1.2: PYSEC-1, fixed in 2.0"),
        (audit.Report([{"name": "one", "skip_reason": "not on PyPI"}], ""), "one could not be looked up: not on PyPI"),
        (audit.Report(None, "cannot parse"), "pip-audit failed, though pypi can be reached:\ncannot parse"),
    ],
)
def test_what_the_audit_finds_fails_the_check(
    files: audit.Report, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(Auditor({"pypi": KNOWS}, files)) == 1
    assert said in capsys.readouterr().out


def test_pip_audit_takes_our_options_and_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the real pip-audit with every way out closed: it says that it came to no result."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "requirements.txt").write_text(audit.KNOWN_VULNERABLE)
    report = audit.run_pip_audit("pypi", [tmp_path / "requirements.txt"], 60)
    assert report.found is None
    assert "usage:" not in report.said
    assert audit.run_pip_audit("pypi", [tmp_path / "requirements.txt"], 0.01).said == "no answer within 0 s"


def test_everything_is_installed_with_hashes_and_checked() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (install,) = re.findall(r"pip install.*", makefile)
    assert "--require-hashes" in install
    assert makefile.count("$(INSTALL)") == len(list(ROOT.glob("requirements*.txt"))) - 1  # all but the dashboard's
    (compile_,) = re.findall(r"uv pip compile.*", makefile)
    assert "--generate-hashes" in compile_
    assert "--no-strip-extras" in compile_
    for path in ROOT.glob("requirements*.in"):
        assert f"$(COMPILE) {path.name} -o {path.with_suffix('.txt').name}" in makefile
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    for step in ("ruff check .", "-m checks.lock", "-m checks.audit"):
        assert step in recipe[1]


def test_security_rules_hold_for_the_whole_tree() -> None:
    """Ruff's S (bandit's rules) is on; what is left out is named rule by rule, and never for the program itself."""
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
