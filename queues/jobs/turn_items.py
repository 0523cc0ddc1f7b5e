"""What a job adds to its conversation."""

from __future__ import annotations

from schemas import Answer, Query
from schemas.conversations import ConversationItem


def turn_items(query: Query, job_id: str, answer: Answer) -> list[ConversationItem]:
    """Return what was asked and the answer, under the ids that a response of /v1 gives them."""
    request = query.request
    asked = [{"type": "message", "role": "user", "content": query.query}] if request is None else list(request.input)
    name = f"msg_{job_id.replace('-', '')}"
    items = [ConversationItem(item_id=f"{name}_in{number}", data=item) for number, item in enumerate(asked)]
    cites_files = request is not None and any(tool.get("type") == "file_search" for tool in request.tools)
    said = answer.model_dump(mode="json", include={"text", "sources", "answered", "incomplete"})
    data = {"type": "answer", "answer": said, "cites_files": cites_files}
    return [*items, ConversationItem(item_id=name, data=data)]
