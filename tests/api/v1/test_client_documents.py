"""docs/clients.md: its scripts are run with the clients they name."""

from __future__ import annotations

import contextlib
import gc
import io
from pathlib import Path

import pytest

from settings import ROOT
from tests.api.v1.conftest import Service
from tests.support.documents import Snippet, snippets
from tests.support.other_clients import CLIENTS, PYTHON, needs_clients, needs_node, run_client, run_node

SNIPPETS = snippets(ROOT / "docs" / "clients.md")
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


@pytest.mark.parametrize("script", of("python", "openai", "langchain_openai"), ids=str)
def test_each_script_prints_the_answer(script: Snippet) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script.text, "docs/clients.md", "exec"), {})  # noqa: S102
        gc.collect()  # its connections end within this test, which ignores that nobody closed them
    assert "1887" in printed.getvalue()


@needs_clients
@pytest.mark.parametrize("script", of("python", "agents", "litellm"), ids=str)
def test_each_script_of_another_environment_prints_the_answers(
    script: Snippet, service: Service, tmp_path: Path
) -> None:
    printed = run_client(service.api.base_url, tmp_path, PYTHON, "-c", script.text)
    assert printed.count("[1]") == script.text.count("print(")
    assert "1887" in printed


@needs_clients
@needs_node
@pytest.mark.parametrize("script", of("js", "OpenAI", "{ createOpenAI"), ids=str)
def test_each_script_of_node_prints_the_answer(script: Snippet, service: Service) -> None:
    printed = run_node(service.api.base_url, script.text)
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
    command = str(CLIENTS / "bin" / "llm")
    printed = run_client(service.api.base_url, tmp_path, command, *arguments, question, LLM_USER_PATH=str(tmp_path))
    assert "1887" in printed
