"""Following a job through cut streams: what both clients know of the events that they have read."""

from __future__ import annotations

import json

import httpx
from httpx_sse import ServerSentEvent

from ragq import calls
from ragq.calls import refusal
from ragq.errors import JobFailed, RagqError, UnexpectedResponse, refused
from ragq.events import Event, Failed, Finished, Started, Token, read_event
from ragq.models import Answer

# The service sends a comment after 15 seconds without an event.
SILENCE_SECONDS = 45.0
_LAST_ID = "end"


class JobReader:
    """The events of a job that were read so far. `text` is the answer as written, without forgotten tokens.

    A stream that is cut is opened again behind the last event that was read whole, so that no event is lost or doubled.
    """

    def __init__(self, job_id: str, last_event_id: str | None = None) -> None:
        self.job_id = job_id
        self.last_event_id = last_event_id
        self.text = ""
        self.answer: Answer | None = None
        self.ended = False
        self._failure: RagqError | None = None

    def request(self, http: httpx.Client | httpx.AsyncClient, timeout: float) -> httpx.Request:
        headers = {"Accept": "text/event-stream"}
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        silence = httpx.Timeout(timeout, read=SILENCE_SECONDS)
        return http.build_request("GET", calls.events_path(self.job_id), headers=headers, timeout=silence)

    def check(self, response: httpx.Response) -> None:
        """Raise RequestRefused or UnexpectedResponse unless the response has events, or none that are left."""
        if response.status_code == httpx.codes.NO_CONTENT:
            self.ended = True
        elif not response.is_success:
            raise refusal(response)
        elif not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise UnexpectedResponse(f"{response.url} is not this service: it did not answer with events")

    def take(self, sent: ServerSentEvent) -> Event | None:
        """Return the event that was sent; None for a comment."""
        if not sent.data:
            return None
        event = _read(sent)
        self.last_event_id = event.id
        self.ended = event.id == _LAST_ID
        match event:
            case Started():
                self.text = ""
            case Token(text=text):
                self.text += text
            case Finished(answer=answer):
                self.answer = answer
            case Failed():
                self._failure = JobFailed(event.error, job_id=self.job_id, status=event.type)
            case Event(type="error", raw=problem):  # the stream cannot go on
                status, detail, title = (problem.get(name) for name in ("status", "detail", "title"))
                self._failure = refused(
                    int(status or 500), str(detail), title=str(title), retry_after_seconds=None, raw=problem
                )
        return event

    def raise_if_failed(self) -> None:
        """Raise JobFailed if the job ended without a result, RequestRefused if the stream could not go on."""
        if self._failure is not None:
            raise self._failure


def _read(sent: ServerSentEvent) -> Event:
    try:
        data = json.loads(sent.data)
        return read_event(sent.id, sent.event, data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnexpectedResponse(f"an event is not as this service sends it ({error!r})") from error
