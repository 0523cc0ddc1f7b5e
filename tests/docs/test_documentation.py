"""README says what the program does."""

from __future__ import annotations

import re

from fastapi.routing import APIRoute

from server import create_app
from tests.conftest import MakeSettings
from tests.support.processes import ROOT

README = (ROOT / "README.md").read_text()


def test_readme_names_no_route_that_is_not_there(make_settings: MakeSettings) -> None:
    paths = set(create_app(make_settings()).openapi()["paths"])
    for path in re.findall(r"http://127\.0\.0\.1:8000(/[a-z-]+)", README):
        assert path in {*paths, "/docs"} or f"{path}/{{job_id}}" in paths, path


def test_every_route_is_described(make_settings: MakeSettings) -> None:
    for route in create_app(make_settings()).routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            assert route.description, route.path


def test_make_targets_named_in_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)`", README)) <= targets
    assert set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE)) <= targets
