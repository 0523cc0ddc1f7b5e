"""The window of a chat model: how many tokens its prompt and its answer may have together.

Providers tell the window in different places, or only when they refuse a prompt that is too long. What was found is
kept with the dialect. Nothing here fails a question.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from client.llm.failures import CallFailure, StatusFailure
from client.llm.http import Endpoint
from rag.text.normalize import estimate_tokens

if TYPE_CHECKING:
    from client.llm.dialect import Dialect

log = logging.getLogger(__name__)

# Facts of the dialect: the size, and that the provider was asked for the size and does not tell.
WINDOW = "window"
NOT_TOLD = "window_not_told"
# The time for all questions about the window together.
PROBE_SECONDS = 3.0
# A smaller number is no window, but a mistake.
MIN_WINDOW = 256
# Share of a prompt that was refused without a number, and is tried next.
SHRINK = 0.8
# Providers that tell the window nowhere.
_SILENT_HOSTS = ("openai.com", "azure.com")
# The window in a refusal, in the words of vLLM and OpenAI, LM Studio, Mistral, Anthropic, Gemini, TGI.
_NUMBER = r"([0-9][0-9,]{2,})"
_SAID = (
    re.compile(rf"context (?:length|window|size)(?: is| of)?(?: only)?[ :(=]*{_NUMBER}"),
    re.compile(rf"{_NUMBER} (?:tokens? )?(?:maximum|max) context"),
    re.compile(rf"> {_NUMBER} maximum"),
    re.compile(rf"maximum number of tokens allowed \({_NUMBER}"),
    re.compile(rf"must be <= {_NUMBER}"),
)
_NUM_CTX = re.compile(r"^num_ctx\s+([0-9]+)", re.MULTILINE)

# Returns a user's prompt for a window of so many tokens; for None, one that is shorter than the last. None: impossible.
Fit = Callable[[int | None], str | None]


async def known_window(dialect: Dialect, url: str, key: str, model: str) -> int | None:
    """Return the window of a model, asking the provider if nobody has; None if it is not known."""
    known = dialect.limit(WINDOW)
    if known is not None or NOT_TOLD in dialect.known:
        return known
    if (urlsplit(url).hostname or "").endswith(_SILENT_HOSTS):
        return None
    window, answered = None, False
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            window, answered = await _ask(url, key, model)
    except TimeoutError:
        pass
    # A provider that failed or did not answer is asked again by the next process.
    dialect.learn(frozenset({NOT_TOLD} if window is None else {f"{WINDOW}:{window}"}), shared=answered)
    log.info("the window of the model: %s", "not told by the provider" if window is None else f"{window} tokens")
    return window


def learn_window(dialect: Dialect, failure: StatusFailure, prompt: str) -> int | None:
    """Remember the window that a refusal of a prompt tells, or else that the prompt is too long. Returns the number."""
    said = window_in_refusal(failure)
    dialect.learn(frozenset({f"{WINDOW}:{said or max(MIN_WINDOW, int(estimate_tokens(prompt) * SHRINK))}"}))
    return said


def window_in_refusal(failure: StatusFailure) -> int | None:
    """Return the window that a refusal names; None if it names none."""
    for number in _values(failure.body, "n_ctx"):  # llama.cpp
        if _is_window(number):
            return int(number)
    text = failure.text
    found = (match for pattern in _SAID if (match := pattern.search(text)))
    numbers = (int(match[1].replace(",", "")) for match in found)
    return next((number for number in numbers if number >= MIN_WINDOW), None)


async def _ask(url: str, key: str, model: str) -> tuple[int | None, bool]:
    """Return the window that a provider tells, or None; and False if a later question may be answered otherwise."""
    answered = True
    base = url.rstrip("/")
    root = base.removesuffix("/v1")
    for address, body, read in (
        (f"{base}/models", None, _of_models),
        (f"{root}/api/v0/models", None, _of_lm_studio),
        (f"{root}/props", None, _of_llama_cpp),
        (f"{root}/model/info", None, _of_litellm),
        (f"{root}/api/show", {"model": model}, _of_ollama),
    ):
        endpoint = Endpoint(address, key)
        try:
            told = orjson.loads(await (endpoint.get() if body is None else endpoint.post(body)))
        except CallFailure as failure:
            answered &= not failure.transient
            continue
        except ValueError:
            continue
        if number := next(filter(_is_window, read(told, model)), None):
            return int(number), True
    return None, answered


def _of_models(told: Any, model: str) -> Iterator[Any]:
    """vLLM, OpenRouter, Mistral, Groq, TGI: in the list of models."""
    for entry in _entries(told, "id", model):
        top = entry.get("top_provider")
        yield top.get("context_length") if isinstance(top, Mapping) else None  # OpenRouter: what is served
        for name in ("max_model_len", "context_length", "max_context_length", "context_window", "max_input_tokens"):
            yield entry.get(name)


def _of_lm_studio(told: Any, model: str) -> Iterator[Any]:
    for entry in _entries(told, "id", model):
        yield entry.get("loaded_context_length")
        yield entry.get("max_context_length")


def _of_llama_cpp(told: Any, _model: str) -> Iterator[Any]:
    """The window of one slot: the server divides its window among the questions that it answers at a time."""
    if isinstance(told, Mapping):
        yield _field(told.get("default_generation_settings"), "n_ctx")
        yield told.get("n_ctx")


def _of_litellm(told: Any, model: str) -> Iterator[Any]:
    for entry in _entries(told, "model_name", model):
        yield _field(entry.get("model_info"), "max_input_tokens")


def _of_ollama(told: Any, _model: str) -> Iterator[Any]:
    """Ollama cuts a prompt beyond `num_ctx`, which is at most what the model was trained for."""
    parameters = str(_field(told, "parameters") or "")
    if match := _NUM_CTX.search(parameters):
        yield int(match[1])
    information = _field(told, "model_info")
    if isinstance(information, Mapping):
        yield from (value for name, value in information.items() if str(name).endswith(".context_length"))


def _entries(told: Any, name: str, model: str) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a list of models that are about a model."""
    data = _field(told, "data")
    for entry in data if isinstance(data, list) else ():
        if isinstance(entry, Mapping) and entry.get(name) == model:
            yield entry


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _values(said: Any, name: str) -> Iterator[Any]:
    """Yield the values of a name anywhere in an error."""
    if isinstance(said, Mapping):
        for key, value in said.items():
            if key == name:
                yield value
            else:
                yield from _values(value, name)


def _is_window(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and number >= MIN_WINDOW
