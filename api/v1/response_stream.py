"""The stream of a response: a projection of the job's events, numbered from 0, equal in every process that serves it.

The projection depends on the events in their order and on the job's record, and on nothing else. So a stream can be
resumed after any number for as long as the result is kept: its beginning is made again and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from api.v1.errors import translate
from api.v1.marks import NumberedText
from api.v1.response_objects import (
    Asked,
    Said,
    message,
    response,
    response_of,
    said,
    search_item,
    text_part,
)
from errors import AppError
from schemas import Answer, Event, FoundPassage, JobStatus, JobView

BEFORE_FIRST: Final = -1


class ResponseStream:
    """Renders the events of one job as OpenAI's events, those after the number `after`."""

    def __init__(self, asked: Asked, *, after: int = BEFORE_FIRST) -> None:
        self._asked = asked
        self._after = after
        self._number = 0
        self._created = False
        self._started = False
        self._search_status = "none"
        self._found: Sequence[FoundPassage] = ()
        self._attempt = 0  # messages that were given up
        self._message_open = False
        self._text = NumberedText()

    def events(self, events: Sequence[Event]) -> bytes:
        """Return what becomes of the next events."""
        return b"".join([self._sse(kind, data) for event in events for kind, data in self._project(event)])

    def end(self, job: JobView) -> bytes:
        """Return what becomes of the end of the job."""
        return b"".join([self._sse(kind, data) for kind, data in self._project_end(job)])

    def error(self, error: AppError) -> bytes:
        """Return the event of a stream that cannot go on."""
        _status, body = translate({"title": error.title, "detail": error.detail}, error.status)
        data = {**body["error"], "type": "error", "sequence_number": self._number}
        return b"event: error\ndata: " + orjson.dumps(data) + b"\n\n"

    def _sse(self, kind: str, data: dict[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        if number <= self._after:
            return b""
        data = {"type": kind, "sequence_number": number} | data
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"

    def _project(self, event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from self._create()
        if event.type == "started":
            yield from self._start()
            yield from self._give_up_message()
        elif event.type == "progress" and event.data.get("stage") not in {None, "searching"}:
            yield from self._end_search()
        elif event.type == "passages":
            self._found = [FoundPassage.model_validate(passage) for passage in event.data["passages"]]  # type: ignore[attr-defined]
        elif event.type == "token":
            yield from self._start()
            yield from self._token(event.data)

    def _project_end(self, job: JobView) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from self._create()
        yield from self._start()
        if job.status is not JobStatus.FINISHED:
            yield from self._give_up_message()
            # There is no event for a cancelled response: its status says that it was cancelled.
            kind = "response.failed" if job.status is JobStatus.FAILED else "response.incomplete"
            yield kind, {"response": response_of(self._asked, job)}
            return
        answer = Answer.model_validate(job.result)
        self._found = answer.passages
        yield from self._end_search()
        yield from self._end_message(answer)
        kind = "response.completed" if answer.incomplete is None else "response.incomplete"
        yield kind, {"response": response_of(self._asked, job)}

    def _create(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._created:
            return
        self._created = True
        background = self._asked.request.background
        begun = {"response": response(self._asked, "queued" if background else "in_progress")}
        yield "response.created", begun
        if background:
            yield "response.queued", begun

    def _start(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._started:
            return
        self._started = True
        yield "response.in_progress", {"response": response(self._asked, "in_progress")}
        if self._asked.searches_files:
            self._search_status = "searching"
            item = search_item(self._asked, "in_progress")
            yield "response.output_item.added", {"output_index": 0, "item": item}
            place = {"output_index": 0, "item_id": item["id"]}
            yield "response.file_search_call.in_progress", place
            yield "response.file_search_call.searching", place

    def _end_search(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._search_status != "searching":
            return
        self._search_status = "completed"
        item = search_item(self._asked, "completed", self._found)
        yield "response.file_search_call.completed", {"output_index": 0, "item_id": item["id"]}
        yield "response.output_item.done", {"output_index": 0, "item": item}

    def _token(self, data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        if shown := self._text.add(str(data.get("checked", data.get("text", "")))):
            yield from self._end_search()
            yield from self._open_message()
            yield from self._delta(shown)

    def _delta(self, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "response.output_text.delta", {**self._place(), "delta": text, "logprobs": []}

    def _open_message(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._message_open:
            return
        self._message_open = True
        item = message(self._message_id(), "in_progress", [])
        yield "response.output_item.added", {"output_index": self._output_index(), "item": item}
        yield "response.content_part.added", {**self._place(), "part": text_part(Said("", []))}

    def _give_up_message(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Close a message whose text is void: another attempt begins the answer again, or none does."""
        self._text = NumberedText()
        if not self._message_open:
            return
        yield "response.output_text.done", {**self._place(), "text": "", "logprobs": []}
        yield "response.content_part.done", {**self._place(), "part": text_part(Said("", []))}
        item = message(self._message_id(), "incomplete", [])
        yield "response.output_item.done", {"output_index": self._output_index(), "item": item}
        self._attempt, self._message_open = self._attempt + 1, False

    def _end_message(self, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
        """Finish the message with the text of the answer, whatever was streamed."""
        yield from self._open_message()
        whole = said(self._asked, answer)
        if rest := self._text.rest(whole.text):
            yield from self._delta(rest)
        for number, annotation in enumerate(whole.cited):
            added = {**self._place(), "annotation_index": number, "annotation": annotation}
            yield "response.output_text.annotation.added", added
        part = text_part(whole)
        yield "response.output_text.done", {**self._place(), "text": whole.text, "logprobs": []}
        yield "response.content_part.done", {**self._place(), "part": part}
        item = message(self._message_id(), "completed" if answer.incomplete is None else "incomplete", [part])
        yield "response.output_item.done", {"output_index": self._output_index(), "item": item}

    def _message_id(self) -> str:
        return self._asked.message_id + (f"_{self._attempt}" if self._attempt else "")

    def _output_index(self) -> int:
        return self._attempt + int(self._asked.searches_files)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id(), "output_index": self._output_index(), "content_index": 0}
