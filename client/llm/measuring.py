"""What is counted and traced of calls of the model provider: times, outcomes, and the tokens that it counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Literal

from client.llm.failures import StatusFailure
from observability import metrics, tracing
from schemas import Usage

# The first two are names of OpenTelemetry's conventions.
Operation = Literal["chat", "embeddings", "rerank"]


@contextmanager
def measured_call(operation: Operation) -> Iterator[None]:
    """Measure and trace the call in the block. A call that is cancelled is not measured."""
    started = time.monotonic()
    outcome = "ok"
    attributes = {"gen_ai.operation.name": operation, "gen_ai.provider.name": "openai"}
    try:
        with tracing.span(operation, attributes, kind="client"):
            yield
    except Exception as error:
        outcome = _outcome_of(error)
        raise
    except BaseException:
        outcome = ""
        raise
    finally:
        if outcome:
            metrics.observe(metrics.PROVIDER_SECONDS, time.monotonic() - started, operation, outcome)


def describe_call(operation: Operation, model: str, usage: Usage | None = None) -> None:
    """Give the span of the call that is made now the name of its model, and the tokens that were counted."""
    if not tracing.enabled():
        return
    span = tracing.current_span()
    span.rename(f"{operation} {model}")
    span.set({"gen_ai.request.model": model})
    if usage is not None:
        span.set({"gen_ai.usage.input_tokens": usage.prompt_tokens})
        if operation == "chat":
            span.set({"gen_ai.usage.output_tokens": usage.completion_tokens})


def count_usage(model: str, usage: Usage | None) -> None:
    """Count the tokens of a call that had an answer."""
    for direction, tokens in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)) if usage else ():
        if tokens > 0:
            metrics.count(metrics.TOKENS, model, direction, by=tokens)


def _outcome_of(error: Exception) -> str:
    if isinstance(error, StatusFailure) and error.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limited"
    return "outage" if isinstance(error, TimeoutError) or getattr(error, "outage", False) else "refused"
