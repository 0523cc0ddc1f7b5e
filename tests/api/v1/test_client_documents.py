"""docs/clients.md: its scripts are run with the clients they name."""

from __future__ import annotations

import contextlib
import io

import pytest
from langchain_openai import ChatOpenAI

from settings import ROOT
from tests.api.v1.conftest import Service
from tests.support.documents import snippets

SCRIPTS = [snippet.text for snippet in snippets(ROOT / "docs" / "clients.md") if snippet.language == "python"]
# A script does not close its client, whose connections then end with the process.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # LangChain's types are narrower than the answers of its own OpenAI client.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]


@pytest.fixture(autouse=True)
def _address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{service.api.base_url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "not-needed")


@pytest.mark.parametrize("script", SCRIPTS, ids=["ask", "background", "chat", "langchain"])
def test_each_script_prints_the_answer(script: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "docs/clients.md", "exec"), {})  # noqa: S102
    assert "1887" in printed.getvalue()


def test_langchain_streams_and_keeps_citations() -> None:
    model = ChatOpenAI(model="rag", use_responses_api=True, streaming=True)
    chunks = list(model.stream("When was the lighthouse built?"))
    text = "".join(str(chunk.text) for chunk in chunks)
    assert "1887" in text
    cited = [
        annotation
        for chunk in chunks
        for block in chunk.content
        if isinstance(block, dict)
        for annotation in block.get("annotations", [])
    ]
    assert cited
    assert cited[0]["page"] == 1
