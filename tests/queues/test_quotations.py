"""Quotations and verdicts through the service: what the model quotes reaches nobody, and a judge marks citations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server import create_app
from tests.conftest import MakeSettings
from tests.queues.test_chat import index, variables
from tests.queues.test_conversations import ask, result
from tests.queues.test_what_models_say import QUESTION, tokens
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import PYTHON, running

QUOTED = "built in 1887"
ANSWER = f'The lighthouse is the work of Tamsin Vale [1 "{QUOTED}"].'
PLAIN = "The lighthouse is the work of Tamsin Vale [1]."


@pytest.fixture
def api(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> Iterator[httpx.Client]:
    """The API, with a worker that asks the stub for answers and for verdicts, and the sample document indexed."""
    settings = make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)
    use = variables(settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY, VERIFY_MODEL="judge")
    index(pdf, settings, **use)
    with (
        running([PYTHON, "main.py", "worker"], tmp_path / "w.log", **use),
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, timeout=40) as client,
    ):
        yield client


def test_a_reader_sees_no_quotation_and_the_verdict(api: httpx.Client, stub: OpenAIStub) -> None:
    verdicts = {"say": "1 yes"}

    def said(messages: list[dict[str, Any]]) -> str:
        return verdicts["say"] if "check claims" in messages[0]["content"] else ANSWER

    stub.behaviour.answer = said
    job_id = ask(api, QUESTION, conversation_id="c")
    answer = result(api, job_id)
    assert (answer["result"], answer["answered"], tokens(api, job_id)) == (PLAIN, True, PLAIN)
    [source] = answer["sources"]
    assert source["verified"] is True
    assert QUOTED in " ".join(source["quote"].split())
    assert [call["model"] for call in stub.behaviour.chats][-1] == "judge"
    items = api.get("/conversations/c/items").json()["items"]
    assert [item["text"] for item in items] == [QUESTION, PLAIN]

    cached_id = ask(api, f"{QUESTION} ")
    assert (result(api, cached_id)["cached"], tokens(api, cached_id)) == (True, PLAIN)

    verdicts["say"] = "I do not know"
    open_answer = result(api, ask(api, f"{QUESTION} And then?"))
    # The claim and its passage are known: no second verdict is asked for.
    assert open_answer["sources"][0]["verified"] is True

    stub.behaviour.answer = lambda messages: (
        "1 no" if "check claims" in messages[0]["content"] else ANSWER.replace("Vale", "Dale")
    )
    denied = result(api, ask(api, f"{QUESTION} Really?"))
    assert (denied["answered"], denied["sources"][0]["verified"], denied["unsupported"]) == (False, False, 0)
