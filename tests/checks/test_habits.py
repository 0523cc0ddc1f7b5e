"""Size limits, pre-commit hooks and the hosted CI hold what `make check` holds."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from checks import sizes
from tests.support.processes import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_module_and_function_is_within_the_limits() -> None:
    assert sizes.check(ROOT, sizes.EXCEPTIONS) == []


def test_every_exception_has_a_reason() -> None:
    assert all(len(reason.split()) >= 4 for reason in sizes.EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("api/long.py", "a = 1\n" * 401, "api/long.py has 401 lines, the limit is 400"),
        ("tests/test_long.py", "a = 1\n" * 601, "tests/test_long.py has 601 lines, the limit is 600"),
        (
            "api/deep.py",
            "class A:\n    def f(self):\n" + "        a = 1\n" * 50,
            "api/deep.py::A.f has 51 lines, the limit is 50",
        ),
    ],
)
def test_what_is_too_long_is_named_unless_it_is_an_exception(
    path: str, text: str, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert sizes.check(tmp_path, {}) == [problem]
    name = problem.partition(" ")[0]
    assert sizes.check(tmp_path, {name: "A reason."}) == []


def test_within_the_limits_and_unneeded_exceptions(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "api" / "short.py").write_text("a = 1\n" * 400)
    (tmp_path / "tests" / "test_short.py").write_text("a = 1\n" * 600)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "not_ours.py").write_text("a = 1\n" * 1000)
    assert sizes.check(tmp_path, {}) == []
    (problem,) = sizes.check(tmp_path, {"api/short.py": "A reason."})
    assert problem == "api/short.py is within the limits: delete its exception"


def test_pre_commit_runs_each_step_of_make_check() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    steps = re.findall(r"\$\(BIN\)/(?:python -m )?([\w.-]+)", recipe[1])
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repo,) = config["repos"]
    assert repo["repo"] == "local"  # no hook is fetched from a network
    assert all(hook["language"] == "system" for hook in repo["hooks"])
    hooks = re.findall(r"\.venv/bin/(?:python -m )?([\w.-]+)", " ".join(hook["entry"] for hook in repo["hooks"]))
    assert len(steps) >= 8
    assert hooks == steps


def test_the_hosted_ci_calls_ci_run_and_nothing_else() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
