"""What a model said, out of a reply or the chunks of a stream: one set of rules for every way to ask it.

The answer is the text without the model's reasoning (`client.llm.reasoning`). A reply that is broken off, withheld by a
filter, empty or an error is a CallFailure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from client.llm.failures import (
    AnswerCutOff,
    AnswerEmpty,
    AnswerFiltered,
    StatusFailure,
    WebPage,
    reported_failure,
)
from client.llm.reasoning import ReasoningFilter
from schemas import Completion, Incomplete, Usage

# The names that providers give to the ways in which an answer ends. Any other name is a proper end.
_CUT = {"length", "max_tokens", "max_output_tokens", "model_length", "token_limit", "model_context_window_exceeded"}
_FILTERED = {
    "content_filter", "content-filter", "content_filtered", "safety", "sensitive", "recitation", "blocklist",
    "prohibited_content", "spii", "guardrail_intervened", "moderation", "image_safety",
}  # fmt: skip
_FAILED = {
    "error", "abort", "aborted", "network_error", "insufficient_system_resource", "unavailable", "timeout",
    "overloaded", "cancelled", "malformed_response",
}  # fmt: skip
_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thought")
_TEXT_TYPES = {"text", "output_text"}


class Reply:
    """A reply so far: whole, or in the chunks of a stream.

    Attributes:
        begun: True once the model has said anything, also nothing but reasoning.
        thinking: True while the model reasons.
        ended_unopened: True if the text ended reasoning that it had not begun.

    """

    def __init__(self, on_restart: Callable[[], None] | None = None, *, begins_with_reasoning: bool = False) -> None:
        self.begun = False
        self.thinking = False
        self.ended_unopened = False
        self._on_restart = on_restart
        self._filter = ReasoningFilter(begins_with_reasoning=begins_with_reasoning)
        self._text: list[str] = []
        self._usage: Any = None  # the last report
        self._finish_reason = ""
        self._called_tool = False
        self._reasoning_chars = 0  # that the provider sent apart

    def read(self, body: bytes) -> None:
        """Take a whole reply that was not streamed. Raises CallFailure, ValueError."""
        self.read_fields(json_fields(body))

    def read_fields(self, fields: Mapping[str, Any]) -> None:
        """Take the object of a whole reply. Raises CallFailure, ValueError."""
        text = self.add(fields)
        if not self.begun:
            raise ValueError(f"no choice in {str(fields)[:200]!r}")
        self.divide(text)
        self.end(announced=True)

    def add(self, fields: Mapping[str, Any]) -> str:
        """Take a chunk or a whole reply. Returns the text of its first choice. Raises CallFailure, ValueError."""
        try:
            return self._add(fields)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{error} in {str(fields)[:200]!r}") from None

    def divide(self, text: str) -> str:
        """Take the text of some chunks. Returns the part of the answer that is certain now.

        Calls `on_restart` when the answer so far turns out to be reasoning.
        """
        if not text:
            return ""
        said = self._filter.feed(text)
        self.thinking = self._filter.thinking
        return self._pass_on(said)

    def end(self, *, announced: bool) -> str:
        """End the reply. Returns the rest of the answer. `announced`: the provider said that its stream ends.

        Raises CallFailure when the reply is no answer.
        """
        if not self.begun:
            raise AnswerCutOff
        if self._finish_reason in _FILTERED:
            raise AnswerFiltered
        if self._finish_reason in _FAILED:
            raise StatusFailure(502, {"code": self._finish_reason}, {})
        if not self._finish_reason and not announced:
            raise AnswerCutOff
        rest = self._pass_on(self._filter.end())
        self.thinking = False
        if not self._called_tool and not "".join(self._text).strip():
            raise AnswerEmpty(self._why_empty())
        return rest

    @property
    def text(self) -> str:
        """The answer; empty when the model called a tool, though no tool was offered."""
        return "" if self._called_tool else "".join(self._text)

    def completion(self, model: str) -> Completion:
        """Return what the model said."""
        return Completion(text=self.text, model=model, usage=self.usage, incomplete=self.incomplete)

    @property
    def incomplete(self) -> Incomplete | None:
        """Why the text is not complete; None if it is."""
        return "max_tokens" if self._finish_reason in _CUT else None

    def _add(self, fields: Mapping[str, Any]) -> str:
        choices = fields.get("choices")
        if (not choices or "error" in fields) and (failure := reported_failure(fields)):
            raise failure
        if usage := fields.get("usage"):
            self._usage = usage
        if not choices:
            return ""
        choice = choices[0]
        if choice.get("index") and not (
            choice := next((choice for choice in choices if not choice.get("index")), None)
        ):
            return ""
        self.begun = True
        if reason := choice.get("finish_reason"):
            self._finish_reason = str(reason).lower()
        said = choice["delta"] if "delta" in choice else choice.get("message")
        if not said:
            return str(choice.get("text") or "")
        content = said.get("content")
        # Most chunks hold a text alone: looking for more in each would take 0.5 µs.
        return content if len(said) == 1 and isinstance(content, str) else self._said(said)

    def _said(self, said: Mapping[str, Any]) -> str:
        """Return the text of a message, or of a part of one, whatever else it holds."""
        text, reasoning = _divide_parts(said.get("content") or said.get("refusal"))
        self._reason(reasoning or max(_length(said.get(field)) for field in _REASONING_FIELDS))
        if said.get("tool_calls") or said.get("function_call"):
            self._called_tool = True
        return text

    def _reason(self, chars: int) -> None:
        """Count reasoning that the provider sent apart from the answer."""
        if chars:
            self.thinking = True
            self._reasoning_chars += chars

    def _pass_on(self, text: str) -> str:
        if self._filter.taken_back:
            self._filter.taken_back = False
            self._text.clear()
            self.ended_unopened = True
            if self._on_restart is not None:
                self._on_restart()
        if text:
            self._text.append(text)
        return text

    def _why_empty(self) -> str:
        if self.incomplete:
            return "it reached its limit of tokens before it began to answer; ask with a higher max_tokens"
        if self._reasoning_chars or self._filter.reasoning_chars:
            return "it ended after its reasoning; try again, or choose another model"
        return "its reply has no text; try again, or choose another model"

    @property
    def usage(self) -> Usage | None:
        """The tokens used, with an estimate of those of the reasoning if the provider does not count them."""
        usage = read_usage(self._usage)
        reasoning = self._reasoning_chars + self._filter.reasoning_chars
        if usage is None or usage.reasoning_tokens or not reasoning:
            return usage
        share = reasoning / (reasoning + self._filter.answer_chars)
        return usage.model_copy(update={"reasoning_tokens": round(usage.completion_tokens * share)})


def json_fields(body: bytes) -> Any:
    """Return the JSON that a response holds. Raises WebPage, ValueError."""
    if body.lstrip()[:1] == b"<":
        raise WebPage
    return orjson.loads(body)


def _divide_parts(content: Any) -> tuple[str, int]:
    """Return the text of a content, which may be a list of parts, and the length of the reasoning in it."""
    if isinstance(content, str):
        return content, 0
    parts = content if isinstance(content, list) else [] if content is None else [content]
    texts, reasoning = [], 0
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif part.get("type", "text") in _TEXT_TYPES and not part.get("thought"):
            text = part.get("text") or ""
            texts.append(text if isinstance(text, str) else text["value"])
        else:
            reasoning += _length({name: value for name, value in part.items() if name != "type"})
    return "".join(texts), reasoning


def _length(reasoning: Any) -> int:
    """Return the number of characters in reasoning of any shape."""
    if isinstance(reasoning, str):
        return len(reasoning)
    if isinstance(reasoning, Mapping):
        return sum(_length(value) for name, value in reasoning.items() if name not in {"type", "format", "id"})
    return sum(map(_length, reasoning)) if isinstance(reasoning, list) else 0


def read_usage(usage: Any) -> Usage | None:
    """Return the number of tokens, None without any. What is no number counts as 0."""
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("completion_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    prompt, completion = _number(usage.get("prompt_tokens")), _number(usage.get("completion_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_number(usage.get("total_tokens")) or prompt + completion,
        reasoning_tokens=_number(details.get("reasoning_tokens")) or _number(usage.get("reasoning_tokens")) or None,
    )


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
