"""SECURITY.md names tests that exist, and every threat has a defence and a test."""

from __future__ import annotations

import ast
import re

from tests.support.processes import ROOT

DOCUMENT = (ROOT / "SECURITY.md").read_text()
NAMED = re.compile(r"`(test_\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of the table of threats, without its head."""
    lines = [line for line in DOCUMENT.splitlines() if line.startswith("|")]
    assert lines[0] == "| threat | defence | test |"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def existing_tests() -> set[str]:
    """Return the names of all test functions, also those of classes."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")]
    functions = (node for tree in trees for node in ast.walk(tree))
    return {node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_threat_has_a_defence_and_a_test() -> None:
    assert len(rows()) >= 15
    for row in rows():
        threat, defence, proof = row
        assert threat, row
        assert defence, row
        assert NAMED.findall(proof), threat
        assert not NAMED.sub("", proof).strip(), f"{threat}: more than names of tests"


def test_every_test_named_exists() -> None:
    named = set(NAMED.findall(DOCUMENT))
    assert named
    assert named <= existing_tests(), named - existing_tests()
