"""README.md and docs/ name only what exists."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from fastapi.routing import APIRoute

import api.v1
from server import create_app
from settings import Settings
from settings.environment import is_removed
from tests.conftest import MakeSettings
from tests.support.documents import DOCUMENTS, USER_DOCUMENTS, all_snippets
from tests.support.processes import ROOT

TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
USER_TEXT = "\n".join(path.read_text() for path in USER_DOCUMENTS)
ALL_TEXT = "\n".join(TEXTS.values())
MAX_README_LINES = 130
RAGQ = {"RAGQ_URL", "RAGQ_API_KEY"}  # of the client, which reads them itself


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / name).parent / path if path else ROOT / name
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text()), target


def test_every_page_is_in_the_index_and_in_the_readme() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\((\w+\.md)\)", TEXTS["docs/README.md"])) == pages
    assert set(re.findall(r"\]\(docs/(\w+\.md)\)", TEXTS["README.md"])) == pages


def test_the_readme_is_short() -> None:
    assert TEXTS["README.md"].count("\n") <= MAX_README_LINES


def test_routes_in_documents_exist(make_settings: MakeSettings) -> None:
    app = create_app(make_settings())
    modules = [import_module(f"api.v1.{module.name}") for module in iter_modules(api.v1.__path__)]
    routes = [route for module in modules if hasattr(module, "router") for route in module.router.routes]
    others = [route.path for route in routes if isinstance(route, APIRoute)]
    paths = {*app.openapi()["paths"], *others}
    known = {re.sub(r"\{\w+(:path)?\}", "*", path) for path in paths} | {"/docs", "/openapi.json", "/v1", "/mcp"}
    named = re.findall(r"http://127\.0\.0\.1:8000(/[^\s?#`'\";]*)", USER_TEXT)
    named += re.findall(r"`(?:GET|POST|DELETE) (/[^\s?`]*)", USER_TEXT)
    assert len(named) > 30
    for path in named:
        assert re.sub(r"\{\w+\}|\$[A-Z_]+|[0-9a-f-]{36}", "*", path) in known, path


def test_every_route_is_described(make_settings: MakeSettings) -> None:
    for route in create_app(make_settings()).routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            assert route.description, route.path


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", ALL_TEXT)) | set(re.findall(r"^make ([a-z-]+)", ALL_TEXT, re.MULTILINE))
    assert named - {"sure"} <= targets
    assert {target for target in targets if target.startswith("bench")} <= named


def test_variables_in_documents_exist() -> None:
    compose = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    settings = {name.upper() for name in Settings.model_fields}
    assert compose - settings <= set(re.findall(r"`([A-Z_]+)`", TEXTS["docs/deployment.md"]))
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", USER_TEXT))
    named -= {name for name in named if is_removed(name)}
    honoured = {f"{scheme}_PROXY" for scheme in ("HTTP", "HTTPS", "ALL", "NO")} | {"SSL_CERT_FILE", "SSL_CERT_DIR"}
    assert (
        named <= settings | compose | honoured | {"REDIS_URL", "RQ_REDIS_URL", "JOB_ID", "OLLAMA_CONTEXT_LENGTH"} | RAGQ
    )


def test_json_in_documents_is_json() -> None:
    for block in all_snippets("json"):
        json.loads(block.text)


def test_paths_in_documents_exist() -> None:
    for name in set(re.findall(r"`((?:deploy|tests|checks|bench)/[\w./*-]+)`", ALL_TEXT)):
        assert list(ROOT.glob(name)) or Path(ROOT / name).exists(), name
