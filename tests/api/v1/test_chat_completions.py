"""Chat completions asked for by OpenAI's own client, and where their citations lead."""

from __future__ import annotations

import html
import re
import time
from typing import Any
from urllib.parse import urljoin

import httpx
import openai
import pytest
from markdown_it import MarkdownIt

from api.citation_links import signed_query
from auth.links import CitedPlace
from client.valkey import keys
from server import create_app
from settings import Settings
from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service
from tests.api.v1.test_errors import assert_error, serving_with
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving
from tests.support.processes import wait_until
from tests.support.tables import each

QUESTION = "When was the lighthouse built?"
USER: Any = {"role": "user", "content": QUESTION}


def test_an_answer_keeps_its_marks_and_has_its_citations(service: Service) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, USER]
    with client_of(service.api) as client:
        answer = client.chat.completions.create(model="rag", messages=messages, max_tokens=500, temperature=0.1)
    choice = answer.choices[0]
    assert (answer.object, choice.finish_reason, choice.message.role) == ("chat.completion", "stop", "assistant")
    assert choice.message.content is not None
    assert "1887" in choice.message.content
    assert choice.message.annotations is not None
    cited = choice.message.annotations[0].url_citation
    assert choice.message.content[cited.start_index : cited.end_index] == "[1]"
    assert service.api.get(cited.url).status_code == 200
    assert answer.usage is not None
    assert answer.usage.total_tokens == 2
    call = service.model.chats[-1]
    assert call["temperature"] == 0.1
    assert "Be brief." in call["messages"][-1]["content"]


def test_a_stream_ends_with_citations_the_reason_and_the_usage(service: Service) -> None:
    with (
        client_of(service.api) as client,
        client.chat.completions.create(
            model="large", messages=[USER], stream=True, stream_options={"include_usage": True}
        ) as stream,
    ):
        chunks = [chunk.to_dict() for chunk in stream]
    *contents, reason, usage = (dict(chunk) for chunk in chunks)
    deltas: list[Any] = [chunk["choices"][0]["delta"] for chunk in contents]  # type: ignore[index]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "1887" in "".join(delta["content"] for delta in deltas)
    assert deltas[-1]["annotations"][0]["url_citation"]["page"] == 1
    assert reason["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 2  # type: ignore[index]
    assert {chunk["model"] for chunk in chunks} == {"large"}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_stream_has_the_marks_of_the_answer_and_at_last_its_sources(service: Service) -> None:
    service.model.answer = "Its lamp turns once in twelve seconds [2]. It was built in 1887 [9] [1]."
    with client_of(service.api) as client:
        whole = client.chat.completions.create(model="rag-sources", messages=[USER]).choices[0].message.content
        with client.chat.completions.create(model="rag-sources", messages=[USER], stream=True) as stream:
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert whole == (
        "Its lamp turns once in twelve seconds [1]. It was built in 1887 [2].\n\n"
        "[1] lighthouse.pdf, page 2: `Its lamp turns once in twelve seconds and is seen from 21 nautical miles away.`\n"
        "[2] lighthouse.pdf, page 1: `The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale.`"
    )
    assert streamed == whole


def test_a_quote_in_the_list_of_sources_is_shown_as_it_is(service: Service) -> None:
    """A document writes neither links nor pictures into an answer."""
    quote = "The bakery ``` of ![Brindle](https://evil.example/a.png) has <b>one</b> [oven](https://evil.example)."
    upload = service.api.post("/uploads", files={"file": ("bakery.txt", quote.encode())}).json()["upload_id"]
    wait_until(lambda: service.api.get(f"/uploads/{upload}").json()["status"] == "ready", seconds=30)
    service.model.answer = "It has one oven [1]."
    asked: Any = {"role": "user", "content": "How many ovens has the bakery of Brindle?"}
    with client_of(service.api) as client:
        choice = client.chat.completions.create(model="rag-sources", messages=[asked]).choices[0]
    service.api.delete(f"/uploads/{upload}")
    assert choice.message.content is not None
    (rendered,) = (token for token in MarkdownIt().parse(choice.message.content) if "[1] bakery" in token.content)
    (code,) = (part for part in rendered.children or () if part.type == "code_inline")
    assert code.content == quote
    assert {part.type for part in rendered.children or ()} == {"text", "code_inline"}


def test_a_link_opens_the_cited_page_without_a_key_until_it_expires(service: Service) -> None:
    public = "https://rag.example/docs"
    asking, closed = (
        create_app(service.settings.model_copy(update={"public_url": public, "auth_required": needs_key}))
        for needs_key in (False, True)
    )
    with serving(asking) as asking_url, serving(closed) as url, httpx.Client(base_url=asking_url, timeout=30) as api:
        with client_of(api) as client:
            message = client.chat.completions.create(model="rag-sources", messages=[USER]).choices[0].message
        assert message.annotations is not None
        assert message.content is not None
        link = message.annotations[0].url_citation.url
        assert f"[1] [lighthouse.pdf, page 1]({link}): `The lighthouse of" in message.content
        path = link.removeprefix(public)
        page = httpx.get(url + path, timeout=30)
        assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
        assert re.search(r"<mark>[^<]*built in 1887[^<]*</mark>", page.text)
        assert "<rect " in page.text
        (picture,) = re.findall(r'href="([^"]+)"', page.text)
        shown = httpx.get(urljoin(url + path, html.unescape(picture)), timeout=30)
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
        assert httpx.get(url + path.replace("cited", "uploads").partition("?")[0], timeout=30).status_code in {401, 404}

        upload = api.post("/uploads", files={"file": ("<b>other.txt", b"Another document, of another time.")}).json()
        other, cited = upload["upload_id"], path.split("/")[2]
        for wrong in (
            path.replace(cited, other),
            path.replace("/1?", "/2?"),
            *(re.sub(rf"{name}=(\d)", rf"{name}=1\1", path) for name in ("start", "end", "until")),
            path[:-1] + ("A" if path[-1] != "A" else "B"),
            re.sub("signature=.*", "signature=x", path),
        ):
            assert wrong != path
            assert httpx.get(url + wrong, timeout=30).json()["title"] == "Upload not found", wrong
        assert service.api.get(path).status_code == 404  # without PUBLIC_URL

        def signed(place: CitedPlace) -> httpx.Response:
            key = service.valkey.get(keys.LINK_KEY)
            assert isinstance(key, bytes)
            return httpx.get(f"{url}/cited/{place.upload_id}/{place.page}?{signed_query(place, key)}", timeout=30)

        soon = int(time.time()) + 600
        wait_until(lambda: api.get(f"/uploads/{other}").json()["status"] == "ready", seconds=30)
        text = signed(CitedPlace(other, 1, 8, 16, soon)).text
        assert "<h1>&lt;b&gt;other.txt, page 1</h1>" in text
        assert "Another <mark>document</mark>, of" in text
        assert signed(CitedPlace(other, 1, 8, 16, int(time.time()) - 1)).status_code == 404
        api.delete(f"/uploads/{other}")
        assert signed(CitedPlace(other, 1, 8, 16, soon)).status_code == 404


TITLE = """### Task:
Generate a concise, 3-5 word title with an emoji summarizing the chat history.
### Output:
JSON format: { "title": "your concise title here" }
### Chat History:
<chat_history>
USER: When was the lighthouse built?
ASSISTANT: In 1887 [1].
</chat_history>"""


def test_a_chat_program_gets_its_title_from_the_model_alone(service: Service) -> None:
    service.model.answer = '{ "title": "Lighthouse of 1887 [1]" }'
    task: Any = {"role": "user", "content": TITLE}
    with client_of(service.api) as client:
        choice = client.chat.completions.create(model="large", messages=[task], max_tokens=1000).choices[0]
        with client.chat.completions.create(model="rag", messages=[task], stream=True) as stream:
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert choice.message.content == streamed == service.model.answer
    assert not choice.message.annotations
    (call, again) = service.model.chats
    assert (call["model"], again["model"]) == ("large", "lamp")
    assert TITLE in call["messages"][-1]["content"]
    assert "Tamsin Vale" not in str(call["messages"])  # no document was searched


def test_earlier_messages_make_a_follow_up(service: Service) -> None:
    service.model.answer = "When was the lighthouse built?"
    messages: list[Any] = [
        {"role": "user", "content": "Who built the lighthouse?"},
        {"role": "assistant", "content": "Tamsin Vale."},
        {"role": "user", "content": [{"type": "text", "text": "And when?"}]},
    ]
    with client_of(service.api) as client:
        client.chat.completions.create(model="rag", messages=messages)
    asked = service.model.chats[0]["messages"][-1]["content"]
    assert "Question: Who built the lighthouse?\nAnswer: Tamsin Vale." in asked


BAD = {
    "a title without a model": (
        {"messages": [{"role": "user", "content": TITLE}]},
        "messages[0].content",
        "unsupported_value",
    ),
    "no messages": ({}, "messages", "invalid_request_error"),
    "no question": ({"messages": [{"role": "system", "content": "a"}]}, "messages", "invalid_request_error"),
    "two answers": ({"messages": [USER], "n": 2}, "n", "unsupported_value"),
    "a forced function": ({"messages": [USER], "tool_choice": "required"}, "tool_choice", "unsupported_value"),
    "a JSON answer": (
        {"messages": [USER], "response_format": {"type": "json_object"}},
        "response_format.type",
        "unsupported_value",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "secret-text"}}]}]},
        "messages[0].content[0].type",
        "unsupported_value",
    ),
    "a long question": (
        {"messages": [{"role": "user", "content": "x" * 4001}]},
        "messages[0].content",
        "string_above_max_length",
    ),
    "no tokens": ({"messages": [USER], "max_tokens": 0}, "max_tokens", "invalid_request_error"),
    "another model": ({"messages": [USER], "model": "secret-text"}, "model", "model_not_found"),
}


@each("body, param, code", BAD)
def test_a_bad_request_is_refused_with_the_parameter(
    body: dict[str, Any], param: str, code: str, api: httpx.Client
) -> None:
    response = api.post("/v1/chat/completions", json=body)
    error = assert_error(response, 404 if code == "model_not_found" else 400, code)
    assert error["param"] == param
    assert "secret-text" not in response.text


def test_a_caller_without_the_scope_is_refused(settings: Settings) -> None:
    with serving_with(settings, **TAKING_TOKENS) as api:
        headers = bearer(token("ann", scope="upload"))
        refused = api.post("/v1/chat/completions", json={"messages": [USER]}, headers=headers)
        assert_error(refused, 403, "permission_denied")


def test_a_failed_answer_is_an_error(service: Service) -> None:
    service.model.always_fail = 400
    with client_of(service.api) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="rag", messages=[USER])
        assert caught.value.code == "server_error"
        with (
            pytest.raises(openai.APIError),
            client.chat.completions.create(model="rag", messages=[USER], stream=True) as stream,
        ):
            list(stream)
