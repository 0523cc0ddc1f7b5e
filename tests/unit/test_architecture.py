"""The import rules, read from the source of every module."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.processes import PYTHON, ROOT, environment

# Lower may not import higher. A package stands for its modules.
RANKS = {
    "urls": -1,
    "settings": 0,
    "errors": 0,
    "redaction": 1,
    "terminal": 1,
    "logs": 2,
    "schemas": 3,
    "rag": 4,
    "client": 5,
    "queues": 6,
    "api": 7,
    "server": 8,
    "processes": 8,
    "index": 8,
    "evaluate": 8,
    "keys": 8,
    "main": 9,
}
# Arrows that the ranks allow and the design forbids.
FORBIDDEN = {("api", "queues"), ("api", "rag"), ("server", "queues"), ("server", "rag"), ("processes", "queues")}
SERVICES = {"fastapi", "starlette", "rq", "redis", "qdrant_client", "qdrant_edge", "langchain_qdrant", "openai"}
SERVICES |= {"langchain_openai"}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0].removesuffix(".py") in RANKS)


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """Name the top-level packages a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_every_part_is_ranked_and_found() -> None:
    assert {part(path) for path in FILES} == set(RANKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    source = part(path)
    for target in imports(ast.parse(path.read_text())) & set(RANKS) - {source}:
        assert RANKS[target] < RANKS[source] or (source, target) == ("settings", "errors"), f"{source} → {target}"
        assert (source, target) not in FORBIDDEN, f"{source} → {target}"


@pytest.mark.parametrize("path", [p for p in FILES if part(p) == "rag"], ids=lambda path: path.name)
def test_rag_knows_no_service(path: Path) -> None:
    assert not imports(ast.parse(path.read_text())) & SERVICES


@pytest.mark.parametrize("path", [p for p in FILES if part(p) != "settings"], ids=lambda p: str(p.relative_to(ROOT)))
def test_only_settings_reads_the_environment(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"getenv", "load_dotenv"}
        if isinstance(node, ast.Subscript | ast.Call):
            assert "environ[" not in ast.unparse(node)
            assert "environ.get" not in ast.unparse(node)


# Imports every module named, and ends with a message if that reaches out of the process or reads the environment file.
IMPORTS_ALONE = """
import importlib, socket, subprocess, sys

def refuse(*_arguments, **_options):
    raise SystemExit(f"{name} reaches out at import")

name = "?"
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse
import dotenv
dotenv.load_dotenv = refuse
subprocess.Popen.__init__ = refuse
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in {"onnx", "onnxruntime", "tokenizers"}:  # of requirements-local.txt
            raise
"""


def test_nothing_connects_at_import() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES]
    names = [name for name in names if "migrations" not in name]  # alembic imports those, for a database it has open
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", IMPORTS_ALONE, *names],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
