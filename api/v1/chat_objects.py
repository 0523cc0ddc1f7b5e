"""The chat completion of OpenAI's types, made of a job: whole, or in chunks as the job's events come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from api.problems import openai_error
from api.v1 import ids
from api.v1.errors import ApiError, translate
from api.v1.marks import NumberedText
from api.v1.response_objects import Asked, said
from errors import AppError
from schemas import Answer, Event, Failure, JobStatus, JobView, Usage

DONE: Final = b"data: [DONE]\n\n"
_RATE_LIMITED: Final = {"provider_rate_limited", "too_many_requests"}


@dataclass(frozen=True, slots=True)
class Asker:
    """What a completion needs of its request. With `counts_tokens`, a last chunk has the usage."""

    asked: Asked
    model: str
    counts_tokens: bool = False

    def head(self, kind: str) -> dict[str, Any]:
        """Return the members that a completion and each chunk have."""
        completion_id = ids.to_theirs(ids.CHAT_COMPLETION, self.asked.job_id)
        return {"id": completion_id, "object": kind, "created": self.asked.created_at, "model": self.model}


def completion(asker: Asker, job: JobView) -> dict[str, Any]:
    """Return the completion of a job that has ended. Raises ApiError for one that failed or was cancelled."""
    if job.failure is not None:
        raise failed(job.failure)
    answer = Answer.model_validate(job.result)
    whole = said(asker.asked, answer)
    message = {
        "role": "assistant",
        "content": whole.text,
        "refusal": None,
        "annotations": _annotations(whole.cited),
    }
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(answer), "logprobs": None}
    return asker.head("chat.completion") | {"choices": [choice], "usage": _usage(answer.usage or Usage())}


def failed(failure: Failure) -> ApiError:
    """Return the error for a job that gave no answer."""
    if failure.code in _RATE_LIMITED:
        return ApiError(failure.detail, code="rate_limit_exceeded", status=429)
    if failure.code == "cancelled":
        return ApiError(failure.detail, code="cancelled")
    return ApiError(failure.detail, code="server_error", status=500)


class CompletionStream:
    """Renders the events of one job as chunks. A void beginning cannot be taken back: the answer begins again below."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._begun = False
        self._text = NumberedText()

    def events(self, events: Sequence[Event]) -> bytes:
        """Return what becomes of the next events."""
        return b"".join([self._begin(), *(self._event(event) for event in events)])

    def end(self, job: JobView) -> bytes:
        """Return what becomes of the end of the job."""
        if job.status is not JobStatus.FINISHED:
            error = failed(job.failure or Failure(code="internal", detail="the job failed"))
            return _sse(openai_error(error.detail, type_="server_error", param=None, code=error.code))
        answer = Answer.model_validate(job.result)
        whole = said(self._asker.asked, answer)
        rest = self._text.rest(whole.text) or whole.listed
        last = {"content": rest, "annotations": _annotations(whole.cited)}
        parts = [self._begin(), self._chunk(last), self._chunk({}, finish_reason=_finish_reason(answer))]
        if self._asker.counts_tokens:
            head = self._asker.head("chat.completion.chunk")
            parts.append(_sse(head | {"choices": [], "usage": _usage(answer.usage or Usage())}))
        return b"".join([*parts, DONE])

    def error(self, error: AppError) -> bytes:
        """Return what ends a stream that cannot go on."""
        return _sse(translate({"title": error.title, "detail": error.detail}, error.status)[1])

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._chunk({"role": "assistant", "content": ""})

    def _event(self, event: Event) -> bytes:
        if event.type == "token":
            shown = self._text.add(str(event.data.get("checked", event.data.get("text", ""))))
            return self._chunk({"content": shown}) if shown else b""
        if event.type == "started" and self._text.given:
            self._text = NumberedText()
            return self._chunk({"content": "\n\n"})
        return b""

    def _chunk(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        usage = {"usage": None} if self._asker.counts_tokens else {}
        return _sse(self._asker.head("chat.completion.chunk") | {"choices": [choice]} | usage)


def _sse(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _finish_reason(answer: Answer) -> str:
    return "stop" if answer.incomplete is None else "length"


def _annotations(cited: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "url_citation", "url_citation": {k: v for k, v in one.items() if k != "type"}} for one in cited]


def _usage(counted: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "total_tokens": counted.total_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning_tokens or 0},
    }
