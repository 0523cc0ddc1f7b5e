"""`make containers` on a machine without Docker, and the server that stands in for Qdrant's image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx

from deploy.trial.__main__ import NEEDED, STEPS
from deploy.trial.qdrant_stand_in import make_app
from deploy.trial.walk import Walk
from tests.support.openai_stub import serving
from tests.support.processes import PYTHON, ROOT, environment


def test_without_docker_it_says_what_to_do(tmp_path: Path) -> None:
    use = environment(PATH=str(tmp_path))
    done = subprocess.run(
        [PYTHON, "-m", "deploy.trial"], cwd=ROOT, env=use, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "Install Docker with its compose plugin" in done.stderr


def test_every_step_exists() -> None:
    assert all(callable(getattr(Walk, step)) for step in STEPS)
    assert set(STEPS) > NEEDED


def test_the_stand_in_of_qdrant_asks_for_its_key(tmp_path: Path) -> None:
    with serving(make_app(tmp_path, "secret")) as url, httpx.Client(base_url=url) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/collections").status_code == 401
        assert client.get("/collections", headers={"api-key": "wrong"}).status_code == 401
        assert client.get("/collections", headers={"api-key": "secret"}).json()["result"] == {"collections": []}
    with serving(make_app(tmp_path, "")) as url:
        assert httpx.get(f"{url}/collections").status_code == 200
