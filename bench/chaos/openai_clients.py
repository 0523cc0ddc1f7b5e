"""The clients of a run that speak OpenAI's API, by OpenAI's own client.

They ask by responses in the background, alone and in conversations, and by chat completions. Files go into vector
stores, one by one and in batches.

The client repeats requests by itself, and sends no Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream
from openai.types.responses import Response

from bench.chaos.calls import CALL_SECONDS, RETRY_SECONDS
from bench.chaos.sightings import Ended, Sightings

_RETRIES: Final = 1_000
# A completion is waited for in one call. A client that gave up earlier would cancel its question.
_COMPLETION_SECONDS: Final = 300.0
_LOST_CONNECTION: Final = (openai.APIConnectionError, openai.InternalServerError, httpx2.HTTPError)
_ENDS: Final = {"response.completed", "response.incomplete", "response.failed"}


class OpenAIClients:
    """Clients of one service. `seen` is what they saw, in terms of jobs and uploads."""

    def __init__(self, api_url: str, seen: Sightings) -> None:
        self._seen = seen
        self._conversations: dict[int, asyncio.Task[str]] = {}
        self._client = AsyncOpenAI(
            base_url=f"{api_url}/v1",
            api_key="not-needed",
            max_retries=_RETRIES,
            timeout=CALL_SECONDS,
            _strict_response_validation=True,
        )

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, question: str) -> None:
        """Ask in the background, and follow the stream to its end, again and again from the last event that came."""
        response = await self._client.responses.create(model="rag", input=question, background=True)
        self._seen.jobs[_our_id(response.id)] = "response"
        await self._follow_to_end(response)

    async def converse(self, question: str, number: int) -> None:
        """Ask in the conversation of this number, which the first question begins."""
        if number not in self._conversations:
            self._conversations[number] = asyncio.create_task(self._begin_conversation())
        conversation_id = await self._conversations[number]
        response = await self._client.responses.create(
            model="rag", input=question, background=True, conversation=conversation_id
        )
        job_id = _our_id(response.id)
        self._seen.jobs[job_id] = "conversation"
        self._seen.turns.setdefault(conversation_id, {})[job_id] = question
        await self._follow_to_end(response)

    async def _begin_conversation(self) -> str:
        return (await self._client.conversations.create()).id

    async def complete(self, question: str) -> None:
        """Ask by a chat completion, and wait. The client repeats the request if the connection is lost."""
        client = self._client.with_options(timeout=_COMPLETION_SECONDS)
        completion = await client.chat.completions.create(model="rag", messages=[{"role": "user", "content": question}])
        job_id, message = _our_id(completion.id), completion.choices[0].message
        self._seen.jobs[job_id] = "completion"
        self._seen.note_end(job_id, Ended("finished", message.content or "", bool(message.annotations)))

    async def _follow_to_end(self, response: Response) -> None:
        job_id = _our_id(response.id)
        last = -1
        while job_id not in self._seen.ended:
            try:
                last = await self._follow(response.id, last)
            except _Cut as cut:
                last = cut.last
                self._seen.outages["cut response"] += 1
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, response_id: str, last: int) -> int:
        """Read the events after a number. Returns the number of the last event. Raises _Cut."""
        after: Any = {"starting_after": last} if last >= 0 else {}
        try:
            stream: AsyncStream[Any] = await self._client.responses.retrieve(response_id, stream=True, **after)
            async with stream:
                async for event in stream:
                    if event.sequence_number != last + 1:
                        self._seen.conflicting.add(_our_id(response_id))
                    last = event.sequence_number
                    if event.type in _ENDS:
                        self._seen.note_end(_our_id(response_id), _ended(event.response))
                        return last
        except (*_LOST_CONNECTION, openai.APIError) as error:
            raise _Cut(last) from error
        raise _Cut(last)

    async def read(self, job_id: str) -> None:
        """Read the end of a response again: it must be the same."""
        try:
            response = await self._client.responses.retrieve("resp_" + job_id.replace("-", ""))
        except openai.NotFoundError:
            self._seen.vanished.add(job_id)
            return
        self._seen.note_end(job_id, _ended(response))

    async def upload(self, path: Path, *, by_batch: bool) -> str:
        """Send a file, put it into a vector store of its own, and poll until it ends there. Returns the upload's id."""
        file = await self._client.files.create(file=path, purpose="assistants")
        store = await self._client.vector_stores.create(name=path.name)
        self._seen.stores[store.id] = "in_progress"
        files = self._client.vector_stores.files
        if by_batch:
            await self._client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[file.id])
            found = await files.retrieve(file.id, vector_store_id=store.id)
        else:
            found = await files.create_and_poll(file.id, vector_store_id=store.id)
        self._seen.stores[store.id] = found.status
        return _our_id(file.id)

    async def check_store(self, store_id: str, question_of: dict[str, str]) -> None:
        """Count the files of a store and search it. `question_of`: a question about each document, by its name."""
        store = await self._client.vector_stores.retrieve(store_id)
        question = question_of[store.name]
        found = await self._client.vector_stores.search(store_id, query=question)
        names = Counter(passage.filename for passage in found.data)
        if store.file_counts.completed != 1 or set(names) != {store.name}:
            self._seen.not_found.append(f"{store.name} in its vector store: {store.file_counts}, {dict(names)}")

    async def check_conversations(self) -> None:
        """Compare the items of each conversation with the questions that were asked in it, and their answers."""
        for conversation_id, questions in self._seen.turns.items():
            listed = self._client.conversations.items.list(conversation_id, order="asc", limit=100)
            said = [_text_of(item) async for item in listed]
            turns = Counter(zip_longest(said[::2], said[1::2]))
            expected = Counter(
                (question, self._seen.ended[job_id].text)
                for job_id, question in questions.items()
                if job_id in self._seen.ended
            )
            if turns != expected:
                self._seen.wrong_turns.append(f"{conversation_id}: {turns - expected} instead of {expected - turns}")


def _text_of(item: Any) -> str:
    return "".join(part.text for part in item.content)


class _Cut(Exception):
    """The stream ended before the response; `last` is the number of the last event that came."""

    def __init__(self, last: int) -> None:
        super().__init__(last)
        self.last = last


def _our_id(their_id: str) -> str:
    """Return the id of the job or upload: the 32 hexadecimal digits at the end."""
    return str(uuid.UUID(their_id[-32:]))


def _ended(response: Response) -> Ended:
    """Return how a response ended, in terms of its job."""
    status = "finished" if response.status == "completed" else str(response.status)
    error = "" if response.error is None else response.error.message
    cited = any(
        part.annotations
        for item in response.output
        if item.type == "message"
        for part in item.content
        if part.type == "output_text"
    )
    return Ended(status, response.output_text or error, cited)
