"""Asks with OpenAI's package for agents: whole, streamed, in a session of the service; prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from agents import Agent, FileSearchTool, OpenAIConversationsSession, Runner

WHO, WHEN = "Who built the lighthouse?", "When was the lighthouse built?"
AGENT = Agent(
    name="Archivist",
    model="rag",
    tools=[FileSearchTool(vector_store_ids=["vs_all"], include_search_results=True, max_num_results=3)],
)


async def main() -> dict[str, Any]:
    """Ask in each way."""
    whole = await Runner.run(AGENT, WHEN)
    running = Runner.run_streamed(AGENT, "In which year was the lighthouse built?")
    events = [event async for event in running.stream_events()]
    raw = [event.data.model_dump(mode="json") for event in events if event.type == "raw_response_event"]
    session = OpenAIConversationsSession()
    answers = [str((await Runner.run(AGENT, question, session=session)).final_output) for question in (WHO, WHEN)]
    streamed = Runner.run_streamed(AGENT, "How far is its lamp seen?", session=session)
    async for _ in streamed.stream_events():
        pass
    answers.append(str(streamed.final_output))
    items = await session.get_items()
    newest = await session.get_items(limit=1)
    popped = await session.pop_item()
    left = await session.get_items()
    conversation = session.session_id
    await session.clear_session()
    return {
        "whole": [item.to_input_item() for item in whole.new_items],
        "text": whole.final_output,
        "streamed_text": running.final_output,
        "kinds": [event.type for event in events],
        "raw": raw,
        "answers": answers,
        "conversation": conversation,
        "items": items,
        "newest": newest,
        "popped": popped,
        "left": left,
    }


sys.stdout.write(json.dumps(asyncio.run(main())))
