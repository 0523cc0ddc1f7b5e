"""langchain-openai's chat model, asked and read as `client.llm.completions` asks and reads."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI

from client.llm.replies import Reply, json_fields


class ProviderChat(ChatOpenAI):
    """A chat model whose messages carry a Completion in their metadata. The option `fit` forms each request."""

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        fit = kwargs.pop("fit")
        formed: dict[str, Any] = fit(super()._get_request_payload(input_, stop=stop, **kwargs))
        return formed

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        """Return the message of a reply. Raises CallFailure, ValueError."""
        if isinstance(response, str):  # the SDK passes on what is no JSON
            fields = json_fields(response.encode())
        else:
            fields = response if isinstance(response, dict) else response.model_dump(warnings=False)
        reply = Reply()
        reply.read_fields(fields)
        completion = reply.completion(self.model_name)
        message = AIMessage(completion.text, response_metadata=(generation_info or {}) | {"completion": completion})
        return ChatResult(generations=[ChatGeneration(message=message)])
