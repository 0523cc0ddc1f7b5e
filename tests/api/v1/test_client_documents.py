"""docs/clients.md: its scripts are run with the clients they name."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from settings import ROOT
from tests.api.v1.conftest import Service
from tests.support.documents import Snippet, snippets
from tests.support.processes import environment

SNIPPETS = snippets(ROOT / "docs" / "clients.md")
# `make test` installs them; where CI is set, they must be there.
CLIENTS = Path(sys.prefix) / "clients"
CI = bool(os.environ.get("CI"))
needs_clients = pytest.mark.skipif(
    not CI and not (CLIENTS / "installed").exists(), reason="make .venv/clients/installed"
)
needs_node = pytest.mark.skipif(shutil.which("npm") is None, reason="Node is not on this machine")
# A script does not close its client, whose connections then end with the process.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # LangChain's types are narrower than the answers of its own OpenAI client.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]


def of(language: str, *packages: str) -> list[Snippet]:
    """Return the snippets of a language that begin with the import of one of these packages."""
    starts = tuple(f"{word} {package}" for package in packages for word in ("import", "from"))
    found = [each for each in SNIPPETS if each.language == language and each.text.startswith(starts)]
    assert len(found) >= len(packages)
    return found


@pytest.fixture(autouse=True)
def _address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{service.api.base_url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "not-needed")


def run(service: Service, folder: Path, *command: str, **variables: str) -> str:
    """Run a program of another environment, and return what it printed."""
    address = {"OPENAI_BASE_URL": f"{service.api.base_url}/v1", "OPENAI_API_KEY": "not-needed"}
    # Both programs would send elsewhere, and wait for it.
    silent = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment() | address | silent | variables,
        capture_output=True,
        text=True,
        timeout=110,  # the first run compiles LiteLLM: 9 s of CPU
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", of("python", "openai", "langchain_openai"), ids=str)
def test_each_script_prints_the_answer(script: Snippet) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script.text, "docs/clients.md", "exec"), {})  # noqa: S102
    assert "1887" in printed.getvalue()


@needs_clients
@pytest.mark.parametrize("script", of("python", "agents", "litellm"), ids=str)
def test_each_script_of_another_environment_prints_the_answers(
    script: Snippet, service: Service, tmp_path: Path
) -> None:
    printed = run(service, tmp_path, str(CLIENTS / "bin" / "python"), "-c", script.text)
    assert printed.count("[1]") == script.text.count("print(")
    assert "1887" in printed


@needs_clients
@needs_node
@pytest.mark.parametrize("script", of("js", "OpenAI", "{ createOpenAI"), ids=str)
def test_each_script_of_node_prints_the_answer(script: Snippet, service: Service) -> None:
    printed = run(service, CLIENTS, "node", "--input-type=module", "-e", script.text)
    assert "1887" in printed
    assert "lighthouse.pdf" in printed or "sources" not in script.text


@needs_clients
def test_the_command_llm_prints_the_answer(service: Service, tmp_path: Path) -> None:
    (models,) = (each.text for each in SNIPPETS if "model_id" in each.text)
    (command,) = (each.text for each in SNIPPETS if each.text.startswith("llm "))
    (tmp_path / "extra-openai-models.yaml").write_text(
        models.replace("http://127.0.0.1:8000", str(service.api.base_url))
    )
    arguments = command.split('"')[0].split()[1:]
    question = command.split('"')[1]
    printed = run(service, tmp_path, str(CLIENTS / "bin" / "llm"), *arguments, question, LLM_USER_PATH=str(tmp_path))
    assert "1887" in printed


@pytest.mark.parametrize("by_responses", [True, False])
def test_langchain_streams_and_keeps_citations(by_responses: bool) -> None:
    model = ChatOpenAI(model="rag", use_responses_api=by_responses, streaming=True)
    chunks = list(model.stream("When was the lighthouse built?"))
    assert "1887" in "".join(str(chunk.text) for chunk in chunks)
    if not by_responses:
        return  # LangChain drops the annotations of chat completions
    cited: list[Any] = [
        annotation
        for chunk in chunks
        for block in chunk.content
        if isinstance(block, dict)
        for annotation in block.get("annotations", [])
    ]
    assert cited
    assert cited[0]["page"] == 1
