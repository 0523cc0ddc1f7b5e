"""langchain-openai's chat model, which reads replies by the rules of `client.llm.replies`."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI

from client.llm.replies import json_fields, whole_reply


class ProviderChat(ChatOpenAI):
    """A chat model whose messages carry a Completion in their metadata."""

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        """Return the message of a reply. Raises CallFailure, ValueError."""
        if isinstance(response, str):  # the SDK passes on what is no JSON
            fields = json_fields(response.encode())
        else:
            fields = response if isinstance(response, dict) else response.model_dump(warnings=False)
        completion = whole_reply(fields).completion(self.model_name)
        message = AIMessage(completion.text, response_metadata=(generation_info or {}) | {"completion": completion})
        return ChatResult(generations=[ChatGeneration(message=message)])
