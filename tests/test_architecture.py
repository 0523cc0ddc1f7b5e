"""The import rules, read from the source of every module."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import PYTHON, ROOT, environment

# From the ground up: a module may import what stands on a lower floor of its house, and its own folder.
FLOORS: dict[str, list[set[str]]] = {
    "": [
        {"settings", "errors"},
        {"schemas"},
        {"observability"},
        {"rag"},
        {"client"},
        {"auth", "documents", "webhooks"},
        {"monitoring"},
        {"queues", "api"},
        {"server", "cli"},
        {"main", "index"},
    ],
    "rag": [{"text"}, {"ingest"}, {"search"}, {"citations"}, {"answer"}, {"eval"}],
    "client": [{"files", "sql"}, {"valkey"}, {"rq", "qdrant", "llm"}, {"rq_client", "docling"}],
    "queues": [
        {"search_index", "health", "context"},
        {"wiring"},
        {"jobs", "measuring"},
        {"stock", "ragworker"},
        {"worker", "store_check"},
        {"run", "preload"},
    ],
    "api": [
        {"request_log", "swagger", "pools", "client_connection", "page_files", "same_origin"},
        {"problems"},
        {"middleware"},
        {"uvicorn_protocol", "dependencies", "callbacks", "question_settings", "plain_requests", "multipart_forms"},
        {"citation_links"},
        {"upload_limits", "questions", "collections", "downloads"},
        {"upload_options"},
        {"routes"},
        {"v1"},
        {"mcp"},
        {"openapi"},
    ],
}
# Arrows that the floors allow and the design forbids.
FORBIDDEN = {("api", "rag"), ("server", "queues"), ("server", "rag")}
SERVICES = {"fastapi", "starlette", "rq", "redis", "qdrant_client", "qdrant_edge", "langchain_qdrant", "openai"}
SERVICES |= {"langchain_openai", "prometheus_client"}
HOUSE = {name for floor in FLOORS[""] for name in floor}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0].removesuffix(".py") in HOUSE)
# A program of its own, which users install without the rest.
RAGQ_FILES = sorted((ROOT / "ragq").rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the dotted name of a module; a package's own name for its `__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def part(path: Path) -> str:
    return name_of(path).partition(".")[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def packages_imported(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    return {name.partition(".")[0] for name in names_imported(path)}


@cache
def names_imported(path: Path) -> set[str]:
    """Return every dotted name that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules_imported(path: Path) -> set[str]:
    """Return the modules of this project that a module imports."""
    found = set()
    for name in names_imported(path):
        module = name if name in MODULES else name.rpartition(".")[0]
        if module in MODULES:
            found.add(module)
    return found - {name_of(path)}


def floor(module: str, house: str) -> tuple[str, int] | None:
    """Return the room of a house in which a module stands, and its floor; None for one outside of the house."""
    if house and not module.startswith(f"{house}."):
        return None
    room = module.removeprefix(f"{house}." if house else "").partition(".")[0]
    return next((room, at) for at, rooms in enumerate(FLOORS[house]) if room in rooms)


def test_every_part_has_its_floor() -> None:
    assert {part(path) for path in FILES} == HOUSE


@pytest.mark.parametrize("house", FLOORS)
def test_imports_point_down(house: str) -> None:
    upward = []
    for name, path in MODULES.items():
        source = floor(name, house) if name != house else None
        for imported in modules_imported(path) if source else ():
            target = floor(imported, house) if imported != house else None
            if source and target and source[0] != target[0] and target[1] >= source[1]:
                upward.append(f"{name} → {imported}")
    allowed = {"settings.loading → errors", "settings.environment → errors"}
    allowed |= {f"settings → {name}" for name in MODULES if name.startswith("settings.")}
    assert set(upward) <= allowed


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: modules_imported(path) for name, path in MODULES.items()}
    while leaves := {name for name, imported in graph.items() if not imported & graph.keys()}:
        graph = {name: imported for name, imported in graph.items() if name not in leaves}
    assert not graph


def test_no_forbidden_arrow() -> None:
    arrows = [(path, target) for path in FILES for target in packages_imported(path)]
    assert [f"{name_of(path)} → {target}" for path, target in arrows if (part(path), target) in FORBIDDEN] == []


def test_ragq_and_the_service_do_not_import_each_other() -> None:
    assert [path for path in RAGQ_FILES if packages_imported(path) & HOUSE] == []
    assert [path for path in FILES if "ragq" in packages_imported(path)] == []


def test_every_folder_says_what_belongs_there() -> None:
    folders = {parent for path in [*FILES, *RAGQ_FILES] for parent in path.parents if ROOT in parent.parents}
    silent = [folder for folder in folders if not ast.get_docstring(tree_of(folder / "__init__.py"))]
    assert silent == []


def test_client_is_made_of_few_rooms() -> None:
    assert len([path for path in (ROOT / "client").iterdir() if path.name[0] not in "._"]) <= 10


def test_rag_knows_no_service() -> None:
    services = {name_of(path): packages_imported(path) & SERVICES for path in FILES if part(path) == "rag"}
    assert {module: names for module, names in services.items() if names} == {}


def test_only_settings_reads_the_environment() -> None:
    readers = [path for path in FILES if part(path) != "settings"]
    assert [f"{path}:{node.lineno}" for path in readers for node in reads_of_the_environment(path)] == []


def reads_of_the_environment(path: Path) -> list[ast.expr]:
    """Return where a module reads a variable. Handing `os.environ` on to a child process as a whole is allowed."""
    return [
        node
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"getenv", "load_dotenv"})
        or (isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"))
        or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("environ.get"))
    ]


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
    names = [name for name in MODULES if "migrations" not in name]  # alembic imports those, for a database it has open
    names += [name_of(path) for path in RAGQ_FILES if path.name != "__main__.py"]
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
