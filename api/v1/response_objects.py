"""The response of OpenAI's types, made of a job: of its request, its status and its result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from api.citation_links import CitationLinks, title_of
from api.v1 import ids
from api.v1.marks import NumberedAnswer, Place, numbered
from api.v1.models import WITH_SOURCES
from schemas import Answer, Failure, FoundPassage, JobStatus, JobView, Query, ResponseRequest, Source, Usage

_STATUSES = {
    JobStatus.QUEUED: "queued",
    JobStatus.STARTED: "in_progress",
    JobStatus.FINISHED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}
# The code of a failed response, by the code of the job's failure.
_ERROR_CODES = {
    "provider_rate_limited": "rate_limit_exceeded",
    "too_many_requests": "rate_limit_exceeded",
    "store_unavailable": "vector_store_timeout",
}
# In the list of sources a name is no link, no image and no mark.
_ROUND_BRACKETS = str.maketrans("[]", "()")
FILE_SEARCH_RESULTS = "file_search_call.results"
_NO_USAGE = Usage()
_NO_REQUEST = ResponseRequest()


@dataclass(frozen=True, slots=True)
class Asked:
    """A job's question and request. `links`: the addresses of citations."""

    job_id: str
    created_at: int
    question: str
    request: ResponseRequest
    links: CitationLinks

    @classmethod
    def of(cls, job: JobView, payload: dict[str, Any], links: CitationLinks) -> Asked:
        """Read a job. A question that came another way, as through POST /chat, is shown as a response too."""
        question = str(payload.get("query", ""))
        try:
            request = ResponseRequest.model_validate(payload.get("request"))
        except ValidationError:
            message = {"type": "message", "role": "user", "content": question}
            request = ResponseRequest(input=(message,), background=True)
        return cls(job.job_id, int(job.created_at.timestamp()), question, request, links)

    @classmethod
    def of_query(cls, job: JobView, query: Query, links: CitationLinks) -> Asked:
        """As `of`, by what this process put on the queue: to read it again would take 0.3 ms."""
        return cls(job.job_id, int(job.created_at.timestamp()), query.query, query.request or _NO_REQUEST, links)

    @property
    def searches_files(self) -> bool:
        """True if the request gave the tool that searches files."""
        return any(tool["type"] == "file_search" for tool in self.request.tools)

    @property
    def lists_sources(self) -> bool:
        """True if the text of the answer ends with its sources."""
        return self.request.model == WITH_SOURCES

    @property
    def message_id(self) -> str:
        """The id of the answer's message."""
        return ids.to_theirs(ids.MESSAGE, self.job_id)


def response_of(asked: Asked, job: JobView) -> dict[str, Any]:
    """Return the response of a job as it is now."""
    answer = Answer.model_validate(job.result) if job.status is JobStatus.FINISHED else None
    ended_at = None if job.ended_at is None else int(job.ended_at.timestamp())
    status = _STATUSES[job.status]
    if status == "queued" and not asked.request.background:
        status = "in_progress"
    return response(asked, status, answer=answer, failure=job.failure, completed_at=ended_at)


def response(
    asked: Asked,
    status: str,
    *,
    answer: Answer | None = None,
    failure: Failure | None = None,
    completed_at: int | None = None,
) -> dict[str, Any]:
    """Return a response. No member is left out: some clients fail without them."""
    incomplete = answer is not None and answer.incomplete is not None
    cancelled = status == "cancelled"
    return _echoed(asked) | {
        "id": ids.to_theirs(ids.RESPONSE, asked.job_id),
        "object": "response",
        "created_at": asked.created_at,
        "completed_at": completed_at if status == "completed" else None,
        "status": "incomplete" if incomplete else status,
        "incomplete_details": {"reason": "max_output_tokens"} if incomplete else None,
        "error": _error(failure) if failure is not None and not cancelled else None,
        "model": asked.request.model,
        "output": [] if answer is None else output(asked, answer),
        "usage": None if answer is None else usage(answer.usage or _NO_USAGE),
    }


def _echoed(asked: Asked) -> dict[str, Any]:
    """Return the members that repeat the request, with OpenAI's defaults."""
    defaults: dict[str, Any] = {
        **dict.fromkeys(("instructions", "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt")),
        **dict.fromkeys(("prompt_cache_key", "safety_identifier", "user")),
        "temperature": 1.0,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_logprobs": 0,
        "tool_choice": "auto",
        "truncation": "disabled",
        "service_tier": "default",
        "parallel_tool_calls": True,
        "metadata": {},
        "reasoning": {"effort": None, "summary": None},
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
    }
    request = asked.request
    asked_for = {"tools": list(request.tools), "background": request.background, "store": request.store}
    # `auto` leaves the choice to the service, and a response says which tier it was.
    given = {name: value for name, value in request.given.items() if (name, value) != ("service_tier", "auto")}
    return defaults | given | asked_for


def _error(failure: Failure) -> dict[str, str]:
    return {"code": _ERROR_CODES.get(failure.code, "server_error"), "message": failure.detail}


def usage(counted: Usage) -> dict[str, Any]:
    """Return the tokens of an answer."""
    return {
        "input_tokens": counted.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": counted.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counted.reasoning_tokens or 0},
        "total_tokens": counted.total_tokens,
    }


def output(asked: Asked, answer: Answer) -> list[dict[str, Any]]:
    """Return the items of an answer: the search, if the request gave the tool, and the message."""
    status = "completed" if answer.incomplete is None else "incomplete"
    items = [search_item(asked, "completed", answer.passages)] if asked.searches_files else []
    return [*items, message(asked.message_id, status, [text_part(said(asked, answer))])]


def search_item(asked: Asked, status: str, found: Sequence[FoundPassage] = ()) -> dict[str, Any]:
    """Return the item of the search. `found` is shown if the request asked for it."""
    shown = status == "completed" and FILE_SEARCH_RESULTS in asked.request.include
    return {
        "id": ids.to_theirs(ids.FILE_SEARCH, asked.job_id),
        "type": "file_search_call",
        "status": status,
        "queries": [asked.question],
        "results": [_search_result(passage) for passage in found] if shown else None,
    }


def _search_result(passage: FoundPassage) -> dict[str, Any]:
    return {
        "file_id": ids.to_theirs(ids.FILE, passage.upload_id),
        "filename": passage.name,
        "score": passage.score,
        "text": passage.text,
        "attributes": {"page": passage.page, **passage.attributes},
    }


def input_item(item_id: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return an item that a client sent, with the members that OpenAI's types require."""
    if item.get("type", "message") != "message":
        return item | {"id": item_id}
    content = item.get("content") or ""
    kind = "output_text" if item.get("role") == "assistant" else "input_text"
    parts: list[dict[str, Any]] = [{"type": kind, "text": content}] if isinstance(content, str) else content
    unannotated: dict[str, Any] = {"annotations": [], "logprobs": []}
    shown = [unannotated | part if part["type"] == "output_text" else part for part in parts]
    return {"type": "message", "status": "completed"} | item | {"id": item_id, "content": shown}


def message(message_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the item of a message."""
    return {"id": message_id, "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(whole: Said) -> dict[str, Any]:
    """Return the only part of a message."""
    return {"type": "output_text", "text": whole.text, "annotations": whole.cited, "logprobs": []}


class Said(NamedTuple):
    """An answer as clients show it: the text, a citation for each source, and the list with which the text ends."""

    text: str
    cited: list[dict[str, Any]]
    listed: str = ""


def said(asked: Asked, answer: Answer) -> Said:
    """Return the text and the citations of an answer, each at its first mark in the text."""
    shown = numbered(answer)
    cite = file_citation if asked.searches_files else url_citation
    cited = [cite(asked, source, place) for source, place in shown.cited]
    listed = _sources(asked, shown) if asked.lists_sources else ""
    return Said(shown.text + listed, cited, listed)


def _sources(asked: Asked, shown: NumberedAnswer) -> str:
    """Return the list of sources that follows the text, for programs that show no citations."""
    lines = []
    for number, (source, _) in enumerate(shown.cited, start=1):
        name = " ".join(title_of(source).split()).translate(_ROUND_BRACKETS)
        linked = f"[{name}]({asked.links.to(source, asked.created_at)})" if asked.links.open_pages else name
        lines.append(f"[{number}] {linked}: {_code_span(source.quote)}")
    return "\n\n" + "\n".join(lines) if lines else ""


def _code_span(text: str) -> str:
    """Return a text as Markdown's code in one line, which a document cannot turn into links or pictures."""
    line = " ".join(text.splitlines())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in (line[:1], line[-1:]) else ""
    return f"{fence}{space}{line}{space}{fence}"


def file_citation(_asked: Asked, source: Source, place: Place) -> dict[str, Any]:
    """Return the citation of a file; `place`: where its mark stands in the text."""
    return {
        "type": "file_citation",
        "file_id": ids.to_theirs(ids.FILE, source.upload_id),
        "filename": source.name,
        "index": place[0],
    } | _where(source, place)


def url_citation(asked: Asked, source: Source, place: Place) -> dict[str, Any]:
    """Return the citation of an address, where a browser shows the page or the file; `place`: as for a file."""
    return {
        "type": "url_citation",
        "url": asked.links.to(source, asked.created_at),
        "title": title_of(source),  # many clients keep the address and the title alone
    } | _where(source, place)


def _where(source: Source, place: Place) -> dict[str, Any]:
    return {
        "start_index": place[0],
        "end_index": place[1],
        "quote": source.quote,
        "page": source.page,
        "page_label": source.page_label,
    }
