"""SECURITY.md names tests that exist, and every threat has a defence and a test."""

from __future__ import annotations

import ast
import re

from tests.support.processes import ROOT

DOCUMENT = (ROOT / "SECURITY.md").read_text()
NAMED = re.compile(r"`((?:unit|integration)/\w+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of the table of threats, without its head."""
    lines = [line for line in DOCUMENT.splitlines() if line.startswith("|")]
    assert lines[0] == "| threat | defence | test |"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def functions_of(path: str) -> set[str]:
    """Name the test functions of a file, also those of its classes."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_threat_has_a_defence_and_a_test() -> None:
    assert len(rows()) >= 15
    for row in rows():
        threat, defence, proof = row
        assert threat, row
        assert defence, row
        assert NAMED.findall(proof), threat
        assert not NAMED.sub("", proof).strip(), f"{threat}: more than names of tests"


def test_every_test_named_is_there() -> None:
    named = NAMED.findall(DOCUMENT)
    assert named
    for path, name in named:
        assert name in functions_of(path), f"{path}::{name}"
