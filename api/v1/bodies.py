"""The bodies of POST requests under /v1: the items of a conversation, read as a question and what belongs to it."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from api.v1 import ids
from api.v1.errors import ApiError, invalid, unsupported
from schemas import MAX_HISTORY, MAX_INSTRUCTIONS_CHARS, MAX_QUERY_CHARS, Turn, check_text

ModelT = TypeVar("ModelT", bound=BaseModel)

# The limit of a body; the text of a long conversation takes most of it.
MAX_BODY_BYTES: Final = 512 * 1024
_TEXT_PARTS = {"input_text", "output_text", "text", "refusal"}
_OTHER_MEDIA = {"input_image", "image_url", "input_audio", "audio"}
# Items that clients send back from an earlier answer: accepted, and without effect.
_UNUSED_ITEMS = {"item_reference", "reasoning", "file_search_call", "function_call", "compaction", "web_search_call"}
_RESULTS = {"tool", "function"}
_WISHES = {"system", "developer"}


async def read_body(request: Request, model: type[ModelT]) -> tuple[ModelT, dict[str, Any]]:
    """Return the body of a request as a model, and as it came. Raises RequestValidationError."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": ""}]) from None
    if not isinstance(body, dict):
        raise RequestValidationError([{"type": "model_attributes_type", "loc": ("body",), "msg": ""}])
    try:
        return model.model_validate(body), body
    except ValidationError as error:
        raise invalid(error) from None


@dataclass
class Asked:
    """What the items of a request ask: the question, the turns before it, wishes about the form, and files."""

    question: str = ""
    turns: list[Turn] = field(default_factory=list)
    wishes: list[str] = field(default_factory=list)
    upload_ids: list[str] = field(default_factory=list)

    @property
    def instructions(self) -> str | None:
        """The wishes as one text; None without any. Raises ApiError for a long text."""
        text = "\n\n".join(wish for wish in self.wishes if wish.strip())
        if len(text) > MAX_INSTRUCTIONS_CHARS:
            raise _too_long("instructions", len(text), MAX_INSTRUCTIONS_CHARS)
        return text or None


def read_items(items: Sequence[Any], *, param: str) -> Asked:
    """Read messages, oldest first; the last message of the user is the question. Raises ApiError."""
    asked, place = _read_messages(items, param=param)
    asked.question = check_question(asked.question, param=place or param)
    return asked


def read_turns(items: Sequence[Any], *, param: str) -> Asked:
    """As read_items, for messages that need not end with a question."""
    return _read_messages(items, param=param)[0]


def compaction_item(item_id: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """Return an item that stands for turns, and is read as such. The text is not secret: it is the client's own."""
    content = urlsafe_b64encode(orjson.dumps([[turn.question, turn.answer] for turn in turns])).decode()
    return {"id": item_id, "type": "compaction", "encrypted_content": content}


def _compacted(item: Mapping[str, Any]) -> list[Turn]:
    """Return the turns of such an item; none of another item, or of one that another service made."""
    if item["type"] != "compaction":
        return []
    try:
        turns = orjson.loads(urlsafe_b64decode(item.get("encrypted_content") or ""))
        return [Turn(job_id="", question=question[:MAX_QUERY_CHARS], answer=answer) for question, answer in turns]
    except (ValueError, TypeError):  # also ValidationError
        return []


def _read_messages(items: Sequence[Any], *, param: str) -> tuple[Asked, str]:
    """Return what messages say, and where the last message of the user stands, which is not answered yet."""
    asked = Asked()
    place, pending = "", ""
    for number, item in enumerate(items):
        at = f"{param}[{number}]"
        if not isinstance(item, dict):
            raise _wrong(at, "must be an object with a role and content")
        kind = item.get("type", "message")
        if kind in _UNUSED_ITEMS:
            asked.turns += _compacted(item)
            continue
        if kind != "message":
            raise unsupported(f"{at}.type", "only messages can be answered: this service calls no functions")
        role = item.get("role")
        if role not in {"user", "assistant", *_RESULTS, *_WISHES}:
            raise _wrong(f"{at}.role", "must be user, assistant, system or developer")
        if role in _RESULTS:
            continue  # the result of a function that this service never called
        text = _text(item.get("content"), at, asked)
        if role in _WISHES:
            asked.wishes.append(text)
        elif role == "user":
            pending, place = text, f"{at}.content"
        elif pending:
            asked.turns.append(Turn(job_id="", question=pending[:MAX_QUERY_CHARS], answer=text))
            pending = ""
    asked.turns = asked.turns[-MAX_HISTORY:]
    asked.question = pending
    return asked, place


def check_items(items: Sequence[Any], *, param: str) -> None:
    """Check items that are kept and not answered now. Raises ApiError."""
    for number, item in enumerate(items):
        at = f"{param}[{number}]"
        if not isinstance(item, dict):
            raise _wrong(at, "must be an object with a role and content")
        kind = item.get("type", "message")
        if kind in _UNUSED_ITEMS:
            continue
        if kind != "message":
            raise unsupported(f"{at}.type", "only messages are kept: this service calls no functions")
        if item.get("role") not in {"user", "assistant", *_WISHES}:
            raise _wrong(f"{at}.role", "must be user, assistant, system or developer")
        _checked_text(_text(item.get("content"), at, Asked()), param=f"{at}.content")


def _checked_text(text: str, *, param: str) -> str:
    try:
        return check_text(text)
    except ValueError as error:
        raise _wrong(param, str(error)) from None


def check_question(text: str, *, param: str) -> str:
    """Return a question without the space around it. Raises ApiError."""
    question = text.strip()
    if not question:
        raise _wrong(param, "the last message must be a question of the user, and not be empty")
    if len(question) > MAX_QUERY_CHARS:
        raise _too_long(param, len(question), MAX_QUERY_CHARS)
    return _checked_text(question, param=param)


def _text(content: Any, at: str, asked: Asked) -> str:
    """Return the text of a message's content; files that it names are added to `asked`."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise _wrong(f"{at}.content", "must be a text or a list of parts")
    texts = []
    for number, part in enumerate(content):
        here = f"{at}.content[{number}]"
        if not isinstance(part, dict):
            raise _wrong(here, "must be an object with a type")
        kind = part.get("type")
        if kind in _TEXT_PARTS:
            text = part.get("refusal" if kind == "refusal" else "text")
            if not isinstance(text, str):
                raise _wrong(f"{here}.text", "must be a text")
            texts.append(text)
        elif kind in {"input_file", "file"}:
            asked.upload_ids.append(_upload_id(part, here))
        elif kind in _OTHER_MEDIA:
            raise unsupported(f"{here}.type", "images and audio cannot be answered: send text")
        else:
            raise _wrong(f"{here}.type", "must be input_text, output_text or input_file")
    return "\n".join(texts)


def _upload_id(part: Mapping[str, Any], at: str) -> str:
    named = part.get("file") if isinstance(part.get("file"), dict) else part
    file_id = named.get("file_id") if isinstance(named, dict) else None
    if not isinstance(file_id, str):
        raise unsupported(f"{at}.file_id", "name an uploaded file: data and addresses of files are not read")
    return ids.to_ours(ids.FILE, file_id, param=f"{at}.file_id")


def _wrong(param: str, message: str) -> ApiError:
    return ApiError(f"{param}: {message}", code="invalid_request_error", param=param)


def _too_long(param: str, size: int, limit: int) -> ApiError:
    message = f"{param}: the text has {size:,} characters, and at most {limit:,} are read: send less"
    return ApiError(message, code="string_above_max_length", param=param)
